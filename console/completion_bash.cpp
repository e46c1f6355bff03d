// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "console/completion.hpp"

namespace sev::cli::shells {
namespace {

std::string names_of(const Argument& argument) {
    return argument.letter ? fmt::format("{}|-{}", argument.name, argument.letter) : std::string{argument.name};
}

/// The function of the script that offers an argument's values.
std::string call(Offer what, std::string_view words, const std::string& function) {
    switch (what) {
    case Offer::choices: return fmt::format("{}_offer -W {}", function, single_quoted(words));
    case Offer::files: return fmt::format("{}_offer -f", function);
    case Offer::directories: return fmt::format("{}_offer -d", function);
    case Offer::nothing:
    case Offer::program: break;
    }
    return ":";
}

std::string options_of(const Command& command) {
    std::vector<std::string> out;
    for (const Argument& argument : command.arguments) {
        if (argument.hidden || argument.positional()) continue;
        out.emplace_back(argument.name);
        if (argument.letter) out.push_back(fmt::format("-{}", argument.letter));
    }
    out.emplace_back("--help");
    return joined(out);
}

/// One command's branch: what its options' values may be, its options, and what may stand alone.
std::string branch(const Command& command, const std::string& function) {
    std::string values;
    bool other_program = false;
    for (const Argument& argument : command.arguments) {
        other_program = other_program || argument.kind == Kind::program;
        if (argument.hidden || argument.positional() || !argument.takes_value()) continue;
        values += fmt::format("            {}) {}; return ;;\n", names_of(argument), call(offer(argument), spaced(argument.choices), function));
    }
    if (!values.empty()) values = fmt::format("        case $prev in\n{}        esac\n", values);
    if (other_program) values = fmt::format("        {}_program && return\n", function) + values;
    return fmt::format("    {})\n{}        if [[ $cur == -* ]]; then\n            {}_offer -W '{}'\n        else\n            {}\n        fi ;;\n",
                       hyphenated(command.name), values, function, options_of(command),
                       call(positional_offer(command), positional_choices(command), function));
}

} // namespace

std::string bash(const Program& program) {
    const std::string function = "_" + identifier(program);
    std::vector<std::string> firsts;
    std::string seconds, branches;
    bool other_program = false;
    for (const auto& [first, second] : families(program)) {
        firsts.push_back(first);
        if (!second.empty()) seconds += fmt::format("            {}) {}_offer -W '{}' ;;\n", first, function, joined(second));
    }
    for (const Command* command : shown(program)) {
        branches += branch(*command, function);
        for (const Argument& argument : command->arguments) other_program = other_program || argument.kind == Kind::program;
    }
    std::string out = fmt::format(R"(# bash completion for {0}; made by: {0} --print-completion bash
{1}_offer() {{
    local IFS=$'\n'
    if [[ $1 == -W ]]; then
        COMPREPLY+=($(IFS=' '; compgen -W "$2" -- "$cur"))
    else
        compopt -o filenames 2>/dev/null
        COMPREPLY+=($(compgen "$1" -- "$cur"))
    fi
}}
)",
                                  program.name, function);
    if (other_program)
        out += fmt::format(R"(# The words after "--": a program's own.
{0}_program() {{
    local i
    for ((i = 1; i < COMP_CWORD; i++)); do
        [[ ${{COMP_WORDS[i]}} == -- ]] || continue
        if declare -F _command_offset >/dev/null; then
            _command_offset $((i + 1))
        elif ((COMP_CWORD == i + 1)); then
            COMPREPLY=($(compgen -c -- "$cur"))
        else
            {0}_offer -f
        fi
        return 0
    done
    return 1
}}
)",
                           function);
    return out + fmt::format(R"({1}() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} first=1 command
    COMPREPLY=()
    # readline splits words at an equals sign
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
    while [[ ${{COMP_WORDS[first]}} == -q || ${{COMP_WORDS[first]}} == --quiet ]]; do ((first++)); done
    if ((COMP_CWORD <= first)); then
        {1}_offer -W '{2} help --quiet --help --version'
        return
    fi
    case ${{COMP_WORDS[first]}} in help|-h|--help) ((first++)) ;; esac
    if ((COMP_CWORD <= first)); then
        {1}_offer -W '{2}'
        return
    fi
    command=${{COMP_WORDS[first]}}
    # a command's second word
    if ((COMP_CWORD == first + 1)); then
        case $command in
{3}        esac
    else
        case $command-${{COMP_WORDS[first+1]}} in
            {4}) command+=-${{COMP_WORDS[first+1]}} ;;
        esac
    fi
    case $command in
{5}    esac
}}
complete -F {1} {0}
)",
                             program.name, function, joined(firsts), seconds, seconds.empty() ? "''" : joined(names_of_two_words(program), "|"),
                             branches);
}

} // namespace sev::cli::shells
