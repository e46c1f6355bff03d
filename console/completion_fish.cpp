// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "console/completion.hpp"
#include "console/help.hpp"

namespace sev::cli::shells {
namespace {

/// For fish's single quotes, in which a backslash escapes.
std::string text(std::string_view plain) {
    std::string out = "'";
    for (const char c : plain) {
        if (c == '\'' || c == '\\') out += '\\';
        out += c;
    }
    return out + "'";
}

/// The functions that say where the cursor stands.
std::string functions(const Program& program, const std::string& function) {
    return fmt::format(R"(# Where the cursor stands: "start", "help", or the command: "vmsa-build", also "vmsa" while its second word is missing.
function {0}_place
    set -l words (commandline -opc)
    set -e words[1]
    while contains -- "$words[1]" -q --quiet
        set -e words[1]
    end
    if test (count $words) -eq 0
        echo start
        return
    end
    if contains -- "$words[1]" help -h --help
        set -e words[1]
        if test (count $words) -eq 0
            echo help
            return
        end
    end
    if test (count $words) -gt 1; and contains -- "$words[1]-$words[2]" {1}
        echo "$words[1]-$words[2]"
    else if test (count $words) -eq 1; or contains -- "$words[1]" {2}
        echo "$words[1]"
    end
end
function {0}_in
    contains -- ({0}_place) $argv
end
)",
                       function, names_of_two_words(program).empty() ? "''" : joined(names_of_two_words(program)), joined(all_names(program)));
}

/// The words after "--": a program's own.
std::string program_functions(const std::string& function) {
    return fmt::format(R"(function {0}_after_dashes
    contains -- -- (commandline -opc)
end
function {0}_program
    set -l words (commandline -opc)
    while test "$words[1]" != --
        set -e words[1]
    end
    set -e words[1]
    complete -C (string join ' ' -- (string escape -- $words) (commandline -ct))
end
)",
                       function);
}

std::string offered(Offer what, std::string_view choices) {
    switch (what) {
    case Offer::choices: return fmt::format(" -x -a {}", text(spaced(choices)));
    case Offer::files: return " -r -F";
    case Offer::directories: return " -x -a '(__fish_complete_directories (commandline -ct) \"\")'";
    case Offer::nothing:
    case Offer::program: break;
    }
    return " -x";
}

} // namespace

std::string fish(const Program& program) {
    const std::string function = "__" + identifier(program), complete = fmt::format("complete -c {}", program.name);
    std::string list, commands;
    bool other_program = false;
    for (const auto& [first, second] : families(program)) {
        const std::string summary = second.empty() ? std::string{program.find(first)->summary} : joined(second, ", ");
        list += fmt::format("{} -n '{}_in start help' -a {} -d {}\n", complete, function, first, text(summary));
        for (const std::string& word : second)
            list += fmt::format("{} -n '{}_in {}' -a {} -d {}\n", complete, function, first, word, text(program.find(first + "-" + word)->summary));
    }
    for (const Command* command : shown(program)) {
        std::string place = fmt::format("{}_in {}", function, hyphenated(command->name));
        for (const Argument& argument : command->arguments) {
            if (argument.kind != Kind::program) continue;
            commands +=
                fmt::format("{} -n {} -a '({}_program)'\n", complete, text(fmt::format("{}; and {}_after_dashes", place, function)), function);
            place += fmt::format("; and not {}_after_dashes", function);
            other_program = true;
        }
        if (positional_offer(*command) == Offer::choices)
            commands += fmt::format("{} -n {} -a {}\n", complete, text(place), text(positional_choices(*command)));
        else if (positional_offer(*command) == Offer::files)
            commands += fmt::format("{} -n {} -F\n", complete, text(place));
        commands += fmt::format("{} -n {} -l help -d 'Show help.'\n", complete, text(place));
        for (const Argument& argument : command->arguments) {
            if (argument.hidden || argument.positional()) continue;
            commands += fmt::format("{} -n {} -l {}", complete, text(place), argument.name.substr(2));
            if (argument.letter) commands += fmt::format(" -s {}", argument.letter);
            if (argument.takes_value()) commands += offered(offer(argument), argument.choices);
            commands += fmt::format(" -d {}\n", text(argument.help));
        }
    }
    std::string out = fmt::format("# fish completion for {0}; made by: {0} --print-completion fish\n", program.name) + functions(program, function);
    if (other_program) out += program_functions(function);
    out += fmt::format("{} -f\n", complete);
    for (const GlobalOption& option : global_options())
        out += fmt::format("{} -n '{}_in start' -s {} -l {} -d {}\n", complete, function, option.letter, option.name.substr(2), text(option.help));
    return out + fmt::format("{} -n '{}_in start' -a help -d 'Show help.'\n", complete, function) + list + commands;
}

} // namespace sev::cli::shells
