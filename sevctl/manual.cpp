// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cctype>

#include <fmt/format.h>

#include "sevctl/help.hpp"

namespace sev::cli {
namespace {

/// Text as mdoc input: backslashes, hyphens, and lines that start as a macro does are escaped.
std::string roff(std::string_view text) {
    std::string out;
    bool line_start = true;
    for (const char c : text) {
        if (line_start && (c == '.' || c == '\'')) out += "\\&";
        if (c == '\\') out += "\\e";
        else if (c == '-') out += "\\-";
        else out += c;
        line_start = c == '\n';
    }
    return out;
}

/// A macro's argument: quoted, so that blanks and words such as "No" stay text.
std::string quoted(std::string_view text) {
    std::string out = "\"";
    for (const char c : roff(text)) {
        if (c == '"') out += '"';
        out += c;
    }
    return out + "\"";
}

std::string tag(const Argument& argument) {
    if (argument.positional()) return fmt::format(".It Ar {}\n", quoted(argument.name));
    std::string names;
    if (argument.letter) names = fmt::format("Fl {} , ", argument.letter);
    names += fmt::format("Fl {}", quoted(argument.name.substr(1)));
    return argument.takes_value() ? fmt::format(".It {} Ar {}\n", names, quoted(argument.metavar)) : fmt::format(".It {}\n", names);
}

/// One paragraph, each sentence on a line of its own, as mdoc wants it.
std::string body(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool sentence_ends = text[i] == ' ' && i > 0 && text[i - 1] == '.' && i + 1 < text.size() && std::isupper(static_cast<unsigned char>(text[i + 1]));
        out += sentence_ends ? '\n' : text[i];
    }
    return roff(out) + "\n";
}

std::string paragraphs(std::string_view text) {
    std::string out;
    while (!text.empty()) {
        const auto end = text.find("\n\n");
        out += body(text.substr(0, end));
        if (end == std::string_view::npos) break;
        out += ".Pp\n";
        text = text.substr(end + 2);
    }
    return out;
}

std::string synopsis_macros(const Command& command) {
    std::string out = fmt::format(".Nm\n.Cm {}\n", quoted(command.name));
    for (const bool positional : {false, true}) {
        for (const Argument& argument : command.arguments) {
            if (argument.hidden || argument.positional() != positional) continue;
            std::string one = positional ? fmt::format("Ar {}", quoted(argument.name)) : fmt::format("Fl {}", quoted(argument.name.substr(1)));
            if (!positional && argument.letter) one = fmt::format("Fl {}", argument.letter);
            if (!positional && argument.takes_value()) one += fmt::format(" Ar {}", quoted(argument.metavar));
            if (argument.repeated) one += " ...";
            out += argument.required ? "." + one + "\n" : ".Op " + one + "\n";
        }
    }
    return out;
}

constexpr std::string_view head = R"(.\" SPDX-License-Identifier: Apache-2.0
.\" Made from sevctl's command table by: sevctl --print-man
.Dd November 22, 2026
.Dt SEVCTL 1
.Os xen-sev
.Sh NAME
.Nm sevctl
.Nd AMD SEV for guest owners and hosts: sessions, measurements, verdicts, secrets
.Sh SYNOPSIS
.Nm
.Op Fl q
.Ar command
.Op Ar argument ...
)";

constexpr std::string_view description = R"(.Sh DESCRIPTION
.Nm
makes what a guest owner needs to launch an encrypted guest on somebody else's
machine and to give it secrets only when it is the guest that was meant, and
judges what the machine shows for it.
.Pp
A command of two words may be written with a hyphen:
.Cm vmsa\-build
is
.Cm "vmsa build" .
Options and their values may be joined with an equals sign.
.Pp
Options before the command:
.Bl -tag -width Ds
)";

constexpr std::string_view tail = R"(.Sh FILES
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

constexpr std::string_view end = R"(.Sh COMPATIBILITY
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

} // namespace

std::string manual_page() {
    std::string out{head};
    out += description;
    for (const GlobalOption& option : global_options()) out += fmt::format(".It Fl {} , Fl {}\n{}", option.letter, quoted(option.name.substr(1)), body(option.help));
    out += ".El\n.Sh COMMANDS\n";
    for (const Command* command : commands()) {
        if (command->hidden) continue;
        out += fmt::format(".Ss {}\n{}.Pp\n", quoted(command->name), synopsis_macros(*command));
        out += paragraphs(command->text);
        if (std::ranges::all_of(command->arguments, &Argument::hidden)) continue;
        out += ".Bl -tag -width Ds\n";
        for (const Argument& argument : command->arguments)
            if (!argument.hidden) out += tag(argument) + body(argument.help);
        out += ".El\n";
    }
    out += tail;
    out += ".Sh EXAMPLES\n";
    for (const Command* command : commands()) {
        if (command->hidden) continue;
        std::string summary{command->summary};
        summary.front() = static_cast<char>(std::toupper(static_cast<unsigned char>(summary.front())));
        out += fmt::format("{}:\n.Pp\n.Dl {}\n.Pp\n", roff(summary), roff(command->example));
    }
    // mdoc wants no paragraph before a section
    if (out.ends_with(".Pp\n")) out.resize(out.size() - 4);
    out += end;
    return out;
}

} // namespace sev::cli
