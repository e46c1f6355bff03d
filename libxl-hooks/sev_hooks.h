/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SEV_HOOKS_H
#define SEV_HOOKS_H
/*
 * sev_hooks: a Xen toolstack asks sevd to attest a domain.
 *
 * A domain is created paused; sev_launch() has sevd capture and
 * measure it, ask its owner, hand over its secrets, and let it
 * run.  A domain that is refused has been destroyed before its
 * first instruction.  Nothing is decided here, and no key or
 * secret passes through.
 *
 * Structures are made valid by their _init and emptied by their
 * _dispose; both may be called again.  Strings in them come from
 * malloc or strdup and belong to them.  Functions return one of
 * the SEV_ codes, never longjmp or throw, and may be called from
 * any thread; one structure is for one thread at a time.
 */
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SEV_HOOKS_VERSION 1

#define SEV_OK            0  /* yes: attested, and it runs      */
#define SEV_NOT_TRUSTED   1  /* no: destroyed                   */
#define SEV_ERROR_USAGE  -1  /* the request is not one          */
#define SEV_ERROR_DAEMON -2  /* sevd does not answer, or not so */
#define SEV_ERROR_TIME   -3  /* not decided in time; called off */
#define SEV_ERROR_MEMORY -4

typedef struct sev_request {
    char *socket;     /* NULL: /run/xen-sev/sevd.sock          */
    char *name;       /* of the launch, for people             */
    char *owner;      /* as sevd's configuration names it      */
    char *policy;     /* one of that owner's                   */
    char *xl_cfg;     /* absolute path: sevd creates the domain */
    char *uuid;       /* of domid, whose number may have become
                       * another's; NULL: whoever has it       */
    uint32_t domid;   /* or this paused one; 0: xl_cfg is set  */
    uint32_t timeout_s;
    int leave_paused; /* not 0, with domid: a trusted domain has
                       * its secrets, and waits to be resumed  */
} sev_request;

void sev_request_init(sev_request *request);
void sev_request_dispose(sev_request *request);

typedef struct sev_result {
    uint64_t id;      /* of the launch, for sevctl launches    */
    uint32_t level;   /* ladder of protection: 1 on stock Xen  */
    int emulated;     /* not 0: an emulated PSP measured       */
    int unsettled;    /* not 0: sevd could not be told to call it
                       * off, and may let it run: destroy it   */
    char *state;      /* "running", "refused" ...; may be NULL */
    char *reason;     /* one printable line; may be NULL       */
} sev_result;

void sev_result_init(sev_result *result);
void sev_result_dispose(sev_result *result);

/*
 * Attests a domain and waits.  A sevd that does not answer, or has
 * no place for the question, is asked again until timeout_s.  What
 * is not decided by then, or cannot be understood, is called off;
 * that may take 15 s more.  result says more in every case.
 */
int sev_launch(const sev_request *request, sev_result *result);

/* SEV_OK when sevd is there, answers and launches Xen domains;
 * level and emulated say how it would.  Changes nothing. */
int sev_check(const char *socket, sev_result *result);

/* What a code means, a few words. */
const char *sev_code_text(int code);

#ifdef __cplusplus
}
#endif
#endif
