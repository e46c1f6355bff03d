/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attests a paused domain, as a toolstack would between creating
 * it and letting it run.
 *
 *   launch_domain SOCKET DOMID OWNER POLICY [UUID [SECONDS]]
 *
 * Exit status 0: it runs; 1: not trusted; 2: trouble.
 */
#define _POSIX_C_SOURCE 200809L /* strdup */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sev_hooks.h"

int main(int argc, char **argv)
{
    sev_request request;
    sev_result result;
    unsigned long domid, seconds = 120;
    char *end;
    int code;

    if (argc < 5 || argc > 7)
        return 2;
    domid = strtoul(argv[2], &end, 10);
    if (*end != '\0' || domid == 0 || domid > 0x7FEF)
        return 2;
    if (argc == 7)
        seconds = strtoul(argv[6], &end, 10);
    if (*end != '\0' || seconds == 0 || seconds > 86400)
        return 2;

    sev_request_init(&request);
    sev_result_init(&result);
    request.socket = strdup(argv[1]);
    request.domid = (uint32_t)domid;
    request.owner = strdup(argv[3]);
    request.policy = strdup(argv[4]);
    request.name = strdup("example");
    if (argc > 5) /* a number may have become another domain's */
        request.uuid = strdup(argv[5]);
    request.timeout_s = (uint32_t)seconds;

    code = sev_check(request.socket, &result);
    if (code == SEV_OK) {
        printf("sevd: level L%u%s\n", (unsigned)result.level,
               result.emulated ? ", emulated PSP" : "");
        code = sev_launch(&request, &result);
    }
    printf("%s: %s: %s\n", sev_code_text(code),
           result.state ? result.state : "-",
           result.reason ? result.reason : "-");
    if (result.unsettled)
        printf("sevd may let domain %lu run: destroy it\n", domid);

    sev_request_dispose(&request);
    sev_request_dispose(&request); /* again: nothing happens */
    sev_result_dispose(&result);
    return code == SEV_OK ? 0 : code == SEV_NOT_TRUSTED ? 1 : 2;
}
