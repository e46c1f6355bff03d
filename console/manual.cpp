// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cctype>

#include <fmt/format.h>

#include "console/help.hpp"

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
    if (argument.kind == Kind::program) return fmt::format(".It Fl \\- Ar {}\n", quoted(argument.metavar));
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
        const bool sentence_ends =
            text[i] == ' ' && i > 0 && text[i - 1] == '.' && i + 1 < text.size() && std::isupper(static_cast<unsigned char>(text[i + 1]));
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
            if (argument.kind == Kind::program) {
                out += fmt::format(".Fl \\- Ar {}\n", quoted(argument.metavar));
                continue;
            }
            std::string one = positional ? fmt::format("Ar {}", quoted(argument.name)) : fmt::format("Fl {}", quoted(argument.name.substr(1)));
            if (!positional && argument.letter) one = fmt::format("Fl {}", argument.letter);
            if (!positional && argument.takes_value()) one += fmt::format(" Ar {}", quoted(argument.metavar));
            if (argument.repeated) one += " ...";
            out += argument.required ? "." + one + "\n" : ".Op " + one + "\n";
        }
    }
    return out;
}

std::string head(const Program& program) {
    std::string title{program.name};
    for (char& c : title) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    return fmt::format(R"(.\" SPDX-License-Identifier: Apache-2.0
.\" Made from {0}'s command table by: {0} --print-man
.Dd November 22, 2026
.Dt {1} {4}
.Os xen-sev
.Sh NAME
.Nm {0}
.Nd {2}
.Sh SYNOPSIS
.Nm
.Op Fl q
.Ar command
.Op Ar argument ...
.Sh DESCRIPTION
{3}.Pp
Options before the command:
.Bl -tag -width Ds
)",
                       program.name, title, program.summary, program.description, program.manual_section);
}

} // namespace

std::string manual_page(const Program& program) {
    std::string out = head(program);
    for (const GlobalOption& option : global_options())
        out += fmt::format(".It Fl {} , Fl {}\n{}", option.letter, quoted(option.name.substr(1)), body(option.help));
    out += ".El\n.Sh COMMANDS\n";
    for (const Command* command : program.commands) {
        if (command->hidden) continue;
        out += fmt::format(".Ss {}\n{}.Pp\n", quoted(command->name), synopsis_macros(*command));
        out += paragraphs(command->text);
        if (std::ranges::all_of(command->arguments, &Argument::hidden)) continue;
        out += ".Bl -tag -width Ds\n";
        for (const Argument& argument : command->arguments)
            if (!argument.hidden) out += tag(argument) + body(argument.help);
        out += ".El\n";
    }
    out += program.sections;
    out += ".Sh EXAMPLES\n";
    for (const Command* command : program.commands) {
        if (command->hidden) continue;
        std::string summary{command->summary};
        summary.front() = static_cast<char>(std::toupper(static_cast<unsigned char>(summary.front())));
        out += fmt::format("{}:\n.Pp\n.Dl {}\n.Pp\n", roff(summary), roff(command->example));
    }
    // mdoc wants no paragraph before a section
    if (out.ends_with(".Pp\n")) out.resize(out.size() - 4);
    out += program.closing;
    return out;
}

} // namespace sev::cli
