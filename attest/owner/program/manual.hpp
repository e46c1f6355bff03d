// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string_view>

/// What the manual says besides the command table, as mdoc.
namespace sev::attest::owner::manual {

inline constexpr std::string_view description = R"(.Nm
is the guest owner's side of an attested launch.
A host shows its platform and asks for a session; the owner judges the platform by one of its policies, keeps the session's keys, and answers with
what LAUNCH_START needs.
The host then shows what was launched; the owner recomputes the launch digest from its own files, and only when every check of the verdict passes
do secrets leave, sealed to that one launch.
.Pp
Every answer is signed with the owner's key, which hosts pin, and names the request it answers, so that whoever carries requests and answers can
delay or deny, and no more.
.Pp
A session is used once, expires, and serves only the channel, the launch and the policy it was made for.
It is taken from the store, durably, before anything is judged, so that several instances of
.Nm
on one PostgreSQL store, of which any may die at any moment, never judge it twice.
)";

inline constexpr std::string_view sections = R"(.Sh CONFIGURATION
A JSON object of format
.Dq xen-sev/owner-config ,
version 1; the whole of it is in
.Pa docs/schemas/owner-config.schema.json .
Unknown keys are refused, and nothing that lets somebody in has a default.
.Bl -tag -width Ds
.It Cm key , seal_keys
The signing key, and the keys under which TEK, TIK and stored secrets and policies are encrypted in the store.
Both files must have mode 0600.
.It Cm policies
.Dq folder
with NAME.json files; or, with
.Dq in_store ,
the store, and
.Dq folder
is what the policies' paths are relative to.
.It Cm store
.Dq sqlite :
a file; or
.Dq postgresql :
libpq's connection keywords, without a password, and a
.Dq schema .
A server that is not reached by a socket's folder
.Pq Dq host=/run/postgresql
needs
.Dq sslmode=verify-full .
A connection is waited for 5 seconds
.Pq Dq connect_timeout
and an answer 12.
.It Cm listen
Unix sockets
.Po
.Dq unix ,
.Dq mode ,
.Dq group
.Pc
and HTTPS addresses
.Po
.Dq https ,
.Dq port ,
.Dq certificate ,
.Dq private_key ,
.Dq client_ca
.Pc .
.It Cm clients
Who may ask: each has one of
.Dq uid
(of the process at the other end of a Unix socket),
.Dq certificate
(the SHA-256 of a client certificate that client_ca signed, or
.Dq any )
and
.Dq stdio
(the channel's name for
.Cm exchange ,
or
.Dq any :
whatever name whoever starts it gives),
and
.Dq policies :
a list of names, or
.Dq any .
.It Cm viewers
Who may see the web page, the lists and the metrics:
.Dq uids
and
.Dq certificates .
.It Cm audit_sign_every
After how many records the audit log's head is signed: 1 to 1000000, by default 256.
.It Cm limits
See below.
.El
.Sh LIMITS
Each is a number, and optional.
.Bl -column "requests_per_second" "1 to 10000000" "Default"
.It Sy Key Ta Sy Range Ta Sy Default , and what it bounds
.It sessions Ta 1 to 1000000 Ta 10000: open sessions
.It sessions_per_channel Ta 1 to 1000000 Ta 1000: open sessions of one client
.It session_seconds Ta 1 to 604800 Ta 600: how long a session waits for its evidence
.It requests_per_second Ta 0.01 to 1000000 Ta 20: requests of one client, in the long run
.It burst Ta 1 to 1000000 Ta 40: requests of one client, at once
.It connections Ta 1 to 65536 Ta 256: open connections
.It connections_per_peer Ta 1 to 65536 Ta 128: open connections of one user or address
.It workers Ta 1 to 256 Ta 4: requests worked on at once
.It deadline_s Ta 1 to 600 Ta 10: seconds for a request's body
.It keep_sessions Ta 1 to 10000000 Ta 10000: ended sessions that are kept
.It forget_after_days Ta 1 to 36500 Ta 90: how long they are kept
.El
.Sh SEVERAL INSTANCES
Instances that answer for one address share a PostgreSQL store and have the same signing key, seal keys and policies, with the same content of the
reference files.
A host may take its first step with one and its second with another.
How their seal keys are changed, see
.Cm key rotate .
.Sh WHO MAY WRITE TO THE STORE
The store is trusted to answer, and not with what it says: whoever may write to it and has no key can neither make a policy or a secret nor give one
the name of another, and opens no session.
They can put back what the owner once stored under the same name, and a session that was taken, with its keys, until it expires; and they can delete, and change
what the page and the lists show of launches that are over.
What an older policy could release, that can be released again: let policies expire
.Pq Dq validity ,
and after one was replaced for a reason, look at
.Cm policy list ,
then
.Cm key rotate
and
.Cm key rotate --retire :
nothing that was sealed before opens after that.
.Sh AUDIT LOG
Each record holds the SHA-256 of the one before it, and from time to time a record bears the owner's signature over the log's head.
Nothing before a signature can be changed unseen.
The end of the log can be cut off by whoever may write to the store; only a head that was noted down elsewhere shows that, so note it down
.Pq Cm audit verify
and give it to the next verification.
No key and no secret is in the log.
.Sh FILES
.Bl -tag -width Ds
.It Pa /etc/xen-sev/owner.json
The configuration.
.It Pa /var/lib/xen-sev-owner/owner.db
The store.
.It Pa /run/xen-sev-owner/owner.sock
The socket.
.El
.Sh EXIT STATUS
0: done, or yes.
1: the answer is no: not trusted, not intact, no such thing.
2: trouble: there is no answer.
)";

inline constexpr std::string_view closing = R"(.Sh SEE ALSO
.Xr sev-relay 1 ,
.Xr sevctl 1
.Rs
.%T EAT Attestation Results
.%N draft-ietf-rats-ear-04
.Re
.Rs
.%T JSON Web Signature
.%N RFC 7515
.Re
)";

} // namespace sev::attest::owner::manual
