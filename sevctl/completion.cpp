// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "sevctl/help.hpp"

namespace sev::cli {
namespace {

/// The first words, and for each the second words that go with it.
std::vector<std::pair<std::string, std::string>> word_pairs() {
    std::vector<std::pair<std::string, std::string>> out;
    for (const Command* command : commands()) {
        if (command->hidden) continue;
        const std::string name{command->name};
        const auto blank = name.find(' ');
        const std::string first = name.substr(0, blank), second = blank == std::string::npos ? "" : name.substr(blank + 1);
        const auto known = std::ranges::find(out, first, &std::pair<std::string, std::string>::first);
        if (known == out.end())
            out.emplace_back(first, second);
        else
            known->second += " " + second;
    }
    return out;
}

bool completes_files(const Argument& argument) {
    return argument.reads_file() || argument.writes_file();
}

std::string options_of(const Command& command) {
    std::string out;
    for (const Argument& argument : command.arguments) {
        if (argument.hidden || argument.positional()) continue;
        out += fmt::format("{}{}", out.empty() ? "" : " ", argument.name);
        if (argument.letter) out += fmt::format(" -{}", argument.letter);
    }
    return out + (out.empty() ? "--help" : " --help");
}

std::string spaced(std::string_view choices) {
    std::string out{choices};
    std::ranges::replace(out, '|', ' ');
    return out;
}

/// What the positional arguments may be, where the table lists it.
std::string positional_choices(const Command& command) {
    std::string out;
    for (const Argument& argument : command.arguments)
        if (argument.positional() && argument.kind == Kind::choice) out += fmt::format("{}{}", out.empty() ? "" : " ", spaced(argument.choices));
    return out;
}

std::string hyphenated(std::string_view name) {
    std::string out{name};
    std::ranges::replace(out, ' ', '-');
    return out;
}

/// For a shell's single quotes.
std::string shell_word(std::string_view text) {
    std::string out = "'";
    for (const char c : text) out += c == '\'' ? std::string{"'\\''"} : std::string(1, c);
    return out + "'";
}

std::string names_of(const Argument& argument) { return argument.letter ? fmt::format("{}|-{}", argument.name, argument.letter) : std::string{argument.name}; }

std::string bash() {
    std::string firsts, seconds, commands_text;
    for (const auto& [first, second] : word_pairs()) {
        firsts += (firsts.empty() ? "" : " ") + first;
        if (!second.empty()) seconds += fmt::format("    {}) words=\"{}\" ;;\n", first, second);
    }
    for (const Command* command : commands()) {
        if (command->hidden) continue;
        std::string values;
        for (const Argument& argument : command->arguments) {
            if (argument.hidden || argument.positional() || !argument.takes_value()) continue;
            if (argument.kind == Kind::choice)
                values += fmt::format("            {}) COMPREPLY=($(compgen -W \"{}\" -- \"$cur\")); return ;;\n", names_of(argument), spaced(argument.choices));
            else if (completes_files(argument))
                values += fmt::format("            {}) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n", names_of(argument));
            else
                values += fmt::format("            {}) return ;;\n", names_of(argument));
        }
        commands_text += fmt::format("    {})\n        case $prev in\n{}        esac\n        words=\"{}\" choices=\"{}\" ;;\n", hyphenated(command->name), values, options_of(*command),
                                     positional_choices(*command));
    }
    return fmt::format(R"(# bash completion for sevctl; made by: sevctl --print-completion bash
_sevctl() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} words= choices= first=1 command
    COMPREPLY=()
    while [[ ${{COMP_WORDS[first]}} == -q || ${{COMP_WORDS[first]}} == --quiet ]]; do ((first++)); done
    if ((COMP_CWORD <= first)); then
        COMPREPLY=($(compgen -W "{} help --quiet --help --version" -- "$cur"))
        return
    fi
    command=${{COMP_WORDS[first]}}
    case $command in
{}    esac
    if [[ -n $words ]]; then
        if ((COMP_CWORD == first + 1)); then
            COMPREPLY=($(compgen -W "$words" -- "$cur"))
            return
        fi
        command+=-${{COMP_WORDS[first+1]}}
    fi
    words=
    case $command in
{}    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
    elif [[ -n $choices ]]; then
        COMPREPLY=($(compgen -W "$choices" -- "$cur"))
    else
        COMPREPLY=($(compgen -f -- "$cur"))
    fi
}}
complete -o filenames -F _sevctl sevctl
)",
                       firsts, seconds, commands_text);
}

std::string zsh_text(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c == '[' || c == ']' || c == ':' || c == '\\') out += '\\';
        out += c;
    }
    return out;
}

std::string zsh() {
    std::string list, cases;
    for (const Command* command : commands()) {
        if (command->hidden) continue;
        list += fmt::format("        {}\n", shell_word(fmt::format("{}:{}", hyphenated(command->name), zsh_text(command->summary))));
        cases += fmt::format("        {})\n            _arguments \\\n", hyphenated(command->name));
        for (const Argument& argument : command->arguments) {
            if (argument.hidden) continue;
            std::string action;
            if (argument.takes_value()) {
                action = fmt::format(":{}:", zsh_text(argument.metavar.empty() ? argument.name : argument.metavar));
                if (argument.kind == Kind::choice) action += fmt::format("({})", spaced(argument.choices));
                else if (completes_files(argument)) action += "_files";
            }
            const std::string star = argument.repeated ? "*" : "";
            if (argument.positional())
                cases += fmt::format("                {} \\\n", shell_word(star + action));
            else
                cases += fmt::format("                {} \\\n", shell_word(fmt::format("{}{}[{}]{}", star, argument.name, zsh_text(argument.help), action)));
            if (argument.letter) cases += fmt::format("                {} \\\n", shell_word(fmt::format("-{}[{}]{}", argument.letter, zsh_text(argument.help), action)));
        }
        cases += "                '--help[Show help.]' ;;\n";
    }
    return fmt::format(R"(#compdef sevctl
# zsh completion for sevctl; made by: sevctl --print-completion zsh
_sevctl() {{
    local -a list=(
{}    )
    local first=2
    while [[ $words[first] == (-q|--quiet) ]]; do ((first++)); done
    if ((CURRENT <= first)); then
        _describe command list
        return
    fi
    local command=$words[first]
    # two words name the same command as one with a hyphen
    if [[ -n ${{(M)list:#$command-$words[first+1]:*}} ]]; then
        command+=-$words[first+1]
        ((first++))
    elif ((CURRENT == first + 1)) && [[ -n ${{(M)list:#$command-*}} ]]; then
        local -a seconds=(${{${{(M)list:#$command-*}}#$command-}})
        _describe command seconds
        return
    fi
    words=(sevctl $words[first+1,-1])
    ((CURRENT -= first - 1))
    case $command in
{}    esac
}}
_sevctl "$@"
)",
                       list, cases);
}

std::string fish() {
    std::string out = "# fish completion for sevctl; made by: sevctl --print-completion fish\n";
    out += "complete -c sevctl -n __fish_use_subcommand -s q -l quiet -d 'Say nothing'\n";
    std::set<std::string> said;
    for (const Command* command : commands()) {
        if (command->hidden) continue;
        const std::string name{command->name};
        const auto blank = name.find(' ');
        const std::string first = name.substr(0, blank);
        std::string seen = fmt::format("__fish_seen_subcommand_from {}", first);
        if (said.insert(first).second)
            out += fmt::format("complete -c sevctl -f -n __fish_use_subcommand -a {} -d {}\n", first, shell_word(blank == std::string::npos ? command->summary : "commands of two words"));
        if (blank != std::string::npos) {
            const std::string second = name.substr(blank + 1);
            out += fmt::format("complete -c sevctl -f -n {} -a {} -d {}\n", shell_word(seen), second, shell_word(command->summary));
            seen += fmt::format("; and __fish_seen_subcommand_from {}", second);
        }
        if (const std::string choices = positional_choices(*command); !choices.empty())
            out += fmt::format("complete -c sevctl -f -n {} -a {}\n", shell_word(seen), shell_word(choices));
        for (const Argument& argument : command->arguments) {
            if (argument.hidden || argument.positional()) continue;
            out += fmt::format("complete -c sevctl -n {} -l {}", shell_word(seen), argument.name.substr(2));
            if (argument.letter) out += fmt::format(" -s {}", argument.letter);
            if (argument.kind == Kind::choice) out += fmt::format(" -x -a {}", shell_word(spaced(argument.choices)));
            else if (argument.takes_value()) out += completes_files(argument) ? " -r -F" : " -x";
            out += fmt::format(" -d {}\n", shell_word(argument.help));
        }
    }
    return out;
}

} // namespace

std::string completion(std::string_view shell) {
    if (shell == "bash") return bash();
    if (shell == "zsh") return zsh();
    if (shell == "fish") return fish();
    throw Error{Fault::usage, fmt::format("no completion for {}, want bash, zsh or fish", shell.empty() ? "an empty name" : printable(shell))};
}

} // namespace sev::cli
