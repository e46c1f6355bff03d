// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string_view>

/// What the manual says besides the command table, as mdoc.
namespace sev::cli::manual {

inline constexpr std::string_view description = R"(.Nm
makes what a guest owner needs to launch an encrypted guest on somebody else's
machine and to give it secrets only when it is the guest that was meant, and
judges what the machine shows for it.
.Pp
A command of two words may be written with a hyphen:
.Cm vmsa\-build
is
.Cm "vmsa build" .
Options and their values may be joined with an equals sign.
)";

inline constexpr std::string_view sections = R"(.Sh FILES
An option that takes
.Dq a file or base64
reads the file of that name when there is one, raw; otherwise its value is
decoded.
Other files of the wrong length, kind or content are refused with the place and
what was expected there, and no output is written then.
.Pp
Output files appear whole or not at all; files that belong together appear
together.
Keys come out with mode 0600 and never replace a file unless
.Fl \-force
is given.
.Sh EXIT STATUS
.Bl -tag -width Ds
.It 0
Done; the answer is yes.
.It 1
The answer is no: not valid, not trusted, not equal.
.It 2
Trouble: there is no answer.
One line on stderr says why, and a second one what to do where there is
something to do.
.El
)";

inline constexpr std::string_view closing = R"(.Sh COMPATIBILITY
The commands
.Cm generate , session , verify , validate , "measurement build" , "secret build" , "vmsa build" , "vmsa update"
and
.Cm "vmsa show"
have the options, file formats and output of virtee's
.Nm
0.6.
Where they differ, they refuse what that one lets pass: existing key files
without
.Fl \-force ,
version numbers above 255, options that contradict each other or would be
ignored, keys and nonces of a wrong length, firmware that cannot carry kernel
hashes, an application processor's page without
.Fl \-firmware ,
and chains with another root than AMD's without
.Fl \-root .
.Sh SECURITY CONSIDERATIONS
A key on a command line can be read by every user of the machine while the
command runs; name a file instead.
Commands that handle keys leave no core file.
.Pp
A chain to an emulated root proves nothing about hardware, and is refused
unless the root is named.
)";

} // namespace sev::cli::manual
