// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string_view>

/// What the manual says besides the command table, as mdoc.
namespace sev::relay::manual {

inline constexpr std::string_view description = R"(.Nm
brings the certificates that prove a chip to be AMD's into a cache: its CEK, signed by AMD, and the ASK and ARK of its product.
It is the only program of xen-sev that uses a network library, and it is trusted with nothing: what a server sends is verified up to a pinned root before
it is stored, and again whenever it is read.
.Nm
can delay or deny, no more.
.Pp
A CEK never changes, so what is in the cache is never asked for again.
Several processes that want the same thing make one request.
A server's
.Dq Retry-After ,
and a back-off that doubles with each failure up to an hour, are obeyed by all processes that share the cache; no server is left alone for more than a day.
.Pp
The path of the stored file is printed.
.Pp
.Cm exchange
carries one message to a guest owner's service and the answer back, for a host that has no network of its own.
)";

inline constexpr std::string_view sections = R"(.Sh MISSING ENDORSEMENTS
AMD's server may have no CEK for a chip, as is to be expected of some embedded parts.
The answer (HTTP 404 or 410) is reported as
.Dq endorsement missing
with exit status 1, and remembered for a day.
Whether the platform is AMD's can then not be proved by certificates.
A guest owner who knows the chip by other means may pin it: by naming the fingerprint of its CEK under
.Dq pinned_chips
in the roots of the owner's policy.
A verdict then says that the endorsement is the owner's, and not AMD's.
.Sh HOSTS WITHOUT A NETWORK
Run
.Nm
with
.Fl -cache
on another machine and carry the files over, or fetch them by any other means and bring them in with
.Dq sevctl cert import ,
which verifies them likewise.
.Sh ENVIRONMENT
.Bl -tag -width Ds
.It Ev https_proxy , HTTPS_PROXY , all_proxy , ALL_PROXY
A proxy.
One that wants a name and password belongs into the settings instead, as
.Dq http://NAME:PASSWORD@HOST:PORT ,
in a file that nobody else can read.
.It Ev no_proxy , NO_PROXY
Hosts that are reached without it.
.It Ev SSL_CERT_FILE
As
.Fl -cacert .
.It Ev XDG_CACHE_HOME , HOME
Where the cache is, unless root runs it.
.El
.Sh FILES
.Bl -tag -width Ds
.It Pa /etc/xen-sev/relay.json
Settings: an object with
.Dq format
(xen-sev/relay),
.Dq version
(1), and any of cek_url, ca_url, proxy, no_proxy, cacert, cache, deadline_seconds, missing_hours; for
.Cm exchange
any of owner_url, owner_cacert, owner_cert, owner_key, owner_deadline_seconds.
.It Pa ca/PRODUCT.cert , Pa cek/ID.cert , Pa cek/key-FINGERPRINT.cert
In the cache: certificates, as AMD publishes them.
.It Pa ca/PRODUCT.missing , Pa cek/ID.missing , Pa server/HOST.wait , Pa lock/
In the cache: what was said to be missing, which server is to be left alone, and locks.
They may be removed at any time when no
.Nm
runs.
.El
.Sh EXIT STATUS
.Bl -tag -width Ds
.It 0
The certificate is in the cache and verified; the answer is printed.
.It 1
It is not to be had: the server says that it has none.
.It 2
Trouble, and no answer: no network, the deadline passed, what came was refused, the cache cannot be written, or
.Fl -offline
and not in the cache.
.El
)";

inline constexpr std::string_view closing = R"(.Sh SEE ALSO
.Xr sevctl 1
.Sh SECURITY CONSIDERATIONS
What a server sends is bytes until it is verified up to a pinned root, whatever
the transport: a certificate of the wrong chip, product or root is refused, and
the file is not made.
.Pp
Who may write to the cache can deny, and no more: what is read from it is
verified again.
The chip's id, which
.Cm "fetch cek"
sends to AMD's server, tells which machine asks.
)";

} // namespace sev::relay::manual
