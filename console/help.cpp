// SPDX-License-Identifier: Apache-2.0
#include "console/help.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "console/layout.hpp"

namespace sev::cli {
namespace {

std::string spelled(const Argument& argument) {
    if (argument.kind == Kind::program) return fmt::format("-- {}", argument.metavar);
    if (argument.positional()) return std::string{argument.name};
    const std::string names = argument.letter ? fmt::format("-{}, {}", argument.letter, argument.name) : std::string{argument.name};
    return argument.takes_value() ? fmt::format("{} {}", names, argument.metavar) : names;
}

std::string option_lines(std::string_view spelling, std::string_view text) {
    constexpr std::size_t indent = 26;
    std::string line = fmt::format("  {}", spelling);
    if (line.size() + 2 > indent)
        line += "\n" + std::string(indent, ' ');
    else
        line.resize(indent, ' ');
    return line + wrap(text, indent, indent) + "\n";
}

std::string paragraphs(std::string_view text) {
    std::string out;
    while (!text.empty()) {
        const auto end = text.find("\n\n");
        out += wrap(text.substr(0, end), 0, 0) + "\n\n";
        text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 2);
    }
    return out;
}

} // namespace

std::span<const GlobalOption> global_options() {
    static constexpr std::array options{
        GlobalOption{'q', "--quiet", "Say nothing at all; the exit status speaks."},
        GlobalOption{'h', "--help", "Show help, of a command when one is named."},
        GlobalOption{'V', "--version", "Show the version."},
    };
    return options;
}

std::string synopsis(const Program& program, const Command& command) {
    std::string out = fmt::format("{} {}", program.name, command.name);
    for (const bool positional : {false, true}) {
        for (const Argument& argument : command.arguments) {
            if (argument.hidden || argument.positional() != positional) continue;
            std::string one = positional ? spelled(argument) : std::string{argument.name};
            if (argument.letter) one = fmt::format("-{}", argument.letter);
            if (!positional && argument.takes_value()) one += fmt::format(" {}", argument.metavar);
            if (!argument.required) one = fmt::format("[{}]", one);
            if (argument.repeated) one += "...";
            out += " " + one;
        }
    }
    return out;
}

std::string command_help(const Program& program, const Command& command) {
    std::string out = wrap("usage: " + synopsis(program, command), 8, 0) + "\n\n" + paragraphs(command.text);
    for (const Argument& argument : command.arguments)
        if (!argument.hidden) out += option_lines(spelled(argument), argument.help);
    out += option_lines("-h, --help", "Show this help.");
    return out + fmt::format("\nexample: {}\n", command.example);
}

std::string overview(const Program& program, std::string_view under) {
    std::string out = fmt::format("usage: {} [-q] COMMAND [ARGUMENTS]\n\n{}\n\n", program.name, wrap(fmt::format("{}.", program.summary), 0, 0));
    bool two_words = false;
    for (const Command* command : program.commands) {
        if (command->hidden || (!under.empty() && !command->name.starts_with(fmt::format("{} ", under)))) continue;
        out += option_lines(command->name, command->summary);
        two_words = two_words || command->name.find(' ') != std::string_view::npos;
    }
    out += "\n";
    for (const GlobalOption& option : global_options()) out += option_lines(fmt::format("-{}, {}", option.letter, option.name), option.help);
    const std::string more = fmt::format("{}`{} COMMAND --help` and {}(1) say more. Exit status: 0 done or yes, 1 no, 2 trouble.",
                                         two_words ? "A command of two words may be written with a hyphen. " : "", program.name, program.name);
    return out + "\n" + wrap(more, 0, 0) + "\n";
}

json::Value table_as_json(const Program& program) {
    json::Value out = json::Value::array();
    for (const Command* command : program.commands) {
        json::Value one{{"name", command->name}, {"summary", command->summary}, {"example", command->example}, {"arguments", json::Value::array()}};
        for (const Argument& argument : command->arguments) {
            static constexpr std::array contents{"structured", "opaque", "any"};
            one["arguments"].push_back({{"name", argument.name},
                                        {"letter", argument.letter ? std::string(1, argument.letter) : std::string{}},
                                        {"kind", name(argument.kind)},
                                        {"metavar", argument.metavar},
                                        {"choices", argument.choices},
                                        {"required", argument.required},
                                        {"repeated", argument.repeated},
                                        {"hidden", argument.hidden},
                                        {"secret", argument.secret},
                                        {"reads_file", argument.reads_file()},
                                        {"writes_file", argument.writes_file()},
                                        {"content", contents.at(static_cast<std::size_t>(argument.content))},
                                        {"limit_bytes", argument.limit_bytes}});
        }
        out.push_back(std::move(one));
    }
    return out;
}

} // namespace sev::cli
