// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "console/completion.hpp"

namespace sev::cli::shells {
namespace {

/// For the specifications of _arguments and _describe, in which brackets and colons mean something.
std::string escaped(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c == '[' || c == ']' || c == ':' || c == '\\') out += '\\';
        out += c;
    }
    return out;
}

/// ":FILE:_files": what a value is called, and what is offered for it.
std::string value(const Argument& argument) {
    if (!argument.takes_value()) return {};
    const std::string message = fmt::format(":{}:", escaped(argument.metavar.empty() ? argument.name : argument.metavar));
    switch (offer(argument)) {
    case Offer::choices: return fmt::format("{}({})", message, spaced(argument.choices));
    case Offer::files: return message + "_files";
    case Offer::directories: return message + "_files -/";
    case Offer::nothing:
    case Offer::program: break;
    }
    return message + " ";
}

std::string branch(const Command& command, const std::string& function) {
    std::string out = fmt::format("        {})\n", hyphenated(command.name));
    std::string specifications;
    for (const Argument& argument : command.arguments) {
        if (argument.hidden) continue;
        if (argument.kind == Kind::program) {
            out += fmt::format("            {}_program && return\n", function);
            continue;
        }
        if (argument.positional()) {
            // several of them may come, or none: each position is told as optional, so that what is missing is the parser's to say
            specifications +=
                fmt::format("                {} \\\n", single_quoted(fmt::format("{}{}", argument.repeated ? "*" : ":", value(argument))));
            continue;
        }
        const std::string long_spelling =
            fmt::format("{}{}[{}]{}", argument.name, argument.takes_value() ? "=" : "", escaped(argument.help), value(argument));
        if (!argument.letter) {
            specifications += fmt::format("                {} \\\n", single_quoted((argument.repeated ? "*" : "") + long_spelling));
            continue;
        }
        const std::string once = argument.repeated ? "*" : fmt::format("(-{} {})", argument.letter, argument.name);
        const std::string short_spelling =
            fmt::format("-{}{}[{}]{}", argument.letter, argument.takes_value() ? "+" : "", escaped(argument.help), value(argument));
        specifications +=
            fmt::format("                {} \\\n                {} \\\n", single_quoted(once + long_spelling), single_quoted(once + short_spelling));
    }
    return out + fmt::format("            _arguments \\\n{}                '--help[Show help.]' ;;\n", specifications);
}

} // namespace

std::string zsh(const Program& program) {
    const std::string function = "_" + identifier(program);
    std::string list, seconds, branches;
    bool other_program = false;
    for (const auto& [first, second] : families(program)) {
        if (second.empty()) {
            list += fmt::format("        {}\n", single_quoted(fmt::format("{}:{}", first, escaped(program.find(first)->summary))));
            continue;
        }
        list += fmt::format("        {}\n", single_quoted(fmt::format("{}:{}", first, escaped(joined(second, ", ")))));
        std::string described;
        for (const std::string& word : second)
            described += fmt::format(" {}", single_quoted(fmt::format("{}:{}", word, escaped(program.find(first + "-" + word)->summary))));
        seconds += fmt::format("            {}) list=({} ) && _describe command list ;;\n", first, described);
    }
    for (const Command* command : shown(program)) {
        branches += branch(*command, function);
        for (const Argument& argument : command->arguments) other_program = other_program || argument.kind == Kind::program;
    }
    std::string out = fmt::format("#compdef {0}\n# zsh completion for {0}; made by: {0} --print-completion zsh\n", program.name);
    if (other_program)
        out += fmt::format(R"(# The words after "--": a program's own.
{0}_program() {{
    local -i dashes=${{words[(i)--]}}
    ((dashes < CURRENT)) || return 1
    shift $dashes words
    ((CURRENT -= dashes))
    _normal
    return 0
}}
)",
                           function);
    return out + fmt::format(R"({1}() {{
    local -a list=(
{2}    )
    local -i first=2
    while [[ $words[first] == (-q|--quiet) ]]; do ((first++)); done
    if ((CURRENT <= first)); then
        list+=('help:Show help.' '--quiet:Say nothing at all; the exit status speaks.' '--help:Show help.' '--version:Show the version.')
        _describe command list
        return
    fi
    [[ $words[first] == (help|-h|--help) ]] && ((first++))
    if ((CURRENT <= first)); then
        _describe command list
        return
    fi
    local command=$words[first]
    # a command's second word
    if ((CURRENT == first + 1)); then
        case $command in
{3}        esac
    else
        case $command-$words[first+1] in
            {4}) command+=-$words[first+1]; ((first++)) ;;
        esac
    fi
    words=({0} "${{(@)words[first+1,-1]}}")
    ((CURRENT -= first - 1))
    case $command in
{5}    esac
}}
{1} "$@"
)",
                             program.name, function, list, seconds, seconds.empty() ? "''" : joined(names_of_two_words(program), "|"), branches);
}

} // namespace sev::cli::shells
