// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string_view>

/// What the manual says besides the command table, as mdoc.
namespace sev::psp::emulator::manual {

inline constexpr std::string_view description = R"(.Nm
makes emulated chips, each with an identity and roots of its own, and gives one to other programs as Linux's
.Pa /dev/sev .
It is not AMD hardware and protects nothing: an owner accepts it only by naming its root.
.Pp
The device behaves as Linux's ccp driver does: it initialises the platform for SEV-ES when it is loaded and before commands that need it, wants write
access for what changes the platform, and gives a PSP up that does not answer in time.
)";

inline constexpr std::string_view sections = R"(.Sh ENVIRONMENT
.Bl -tag -width Ds
.It Ev SEV_EMULATOR_SOCKET , LD_PRELOAD
Set by
.Cm run
for the program.
.It Ev TMPDIR
Where
.Cm run
keeps its socket and a chip that is not to stay.
.El
.Sh EXIT STATUS
0 when all went well, 2 with a message on standard error when not.
.Cm run
exits as the program did, or with 128 and the number of the signal that ended it;
.Cm machine
as its command did, with 124 when the time limit was reached, and with 125 when the machine did not come up.
)";

inline constexpr std::string_view closing = R"(.Sh SEE ALSO
.Xr sevctl 1
.Sh SECURITY CONSIDERATIONS
The emulated PSP is a process like any other: whoever may read its memory or its state directory has every key in it.
A program under
.Cm run
lets the emulator read and write its memory during an ioctl, as a kernel does; it talks to one of its own user or of root only.
)";

} // namespace sev::psp::emulator::manual
