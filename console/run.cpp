// SPDX-License-Identifier: Apache-2.0
#include "console/run.hpp"

#include <algorithm>
#include <cstdio>
#include <new>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/error.hpp"
#include "console/help.hpp"
#include "console/parse.hpp"

namespace sev::cli {
namespace {

constexpr int trouble = 2;

/// Keys pass through this process: no core file, and no other process of this user may look into it.
void keep_memory_private() {
    const struct rlimit none {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        throw Error{Fault::system, "core files cannot be turned off for this process, so it will not handle keys"};
}

/// Takes the command's name off the front of `words`: two words, or one.
const Command* take_command(const Program& program, std::vector<std::string>& words) {
    for (const std::size_t length : {std::size_t{2}, std::size_t{1}}) {
        if (words.size() < length) continue;
        std::string name = words[0];
        if (length == 2) name += " " + words[1];
        if (const Command* const command = program.find(name)) {
            words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(length));
            return command;
        }
    }
    return nullptr;
}

/// "fetch --help", where there are only commands of two words.
bool asks_for_family(const Program& program, const std::vector<std::string>& words, bool wants_help) {
    const bool alone = wants_help && words.size() == 1;
    if (!alone && (words.size() != 2 || (words[1] != "-h" && words[1] != "--help"))) return false;
    return std::ranges::any_of(program.commands, [&](const Command* command) { return command->name.starts_with(words[0] + " "); });
}

[[noreturn]] void no_such_command(const Program& program, const std::vector<std::string>& words) {
    std::string under;
    for (const Command* command : program.commands)
        if (command->name.starts_with(words[0] + " ")) under += fmt::format("{}{}", under.empty() ? "" : ", ", command->name);
    const std::string hint = fmt::format("see: {} --help", program.name);
    if (!under.empty()) throw Error{Fault::usage, fmt::format("{} needs a second word: {}", printable(words[0]), under), hint};
    throw Error{Fault::usage, fmt::format("{} is no command of {}", printable(words[0]), program.name), hint};
}

int show(const Program& program, std::string_view text) {
    Console console{program.name, false, false};
    console.print(text);
    console.finish();
    return 0;
}

/// What the build and the tests ask for; not in the manual.
std::optional<int> hidden_request(const Program& program, const std::vector<std::string>& words) {
    if (words[0] == "--print-man" && words.size() == 1) return show(program, manual_page(program));
    if (words[0] == "--print-completion" && words.size() == 2) return show(program, completion(program, words[1]));
    if (words[0] == "--print-commands-json" && words.size() == 1) return show(program, json::pretty(table_as_json(program)));
    return std::nullopt;
}

/// Secrets given as base64 would stay readable in /proc/PID/cmdline while the command runs.
void blank_secrets(const Command& command, int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
        const std::string_view word{argv[i]};
        for (const Argument& argument : command.arguments) {
            if (!argument.secret) continue;
            char* value = nullptr;
            if (word == argument.name && i + 1 < argc) value = argv[i + 1];
            if (word.starts_with(argument.name) && word.substr(argument.name.size()).starts_with('=')) value = argv[i] + argument.name.size() + 1;
            if (value) OPENSSL_cleanse(value, std::string_view{value}.size());
        }
    }
}

int run(const Program& program, int argc, char** argv, bool& quiet) {
    std::vector<std::string> words{argv + 1, argv + argc};
    while (!words.empty() && (words[0] == "-q" || words[0] == "--quiet")) {
        quiet = true;
        words.erase(words.begin());
    }
    if (words.empty()) throw Error{Fault::usage, "no command given", fmt::format("see: {} --help", program.name)};
    if (const auto done = hidden_request(program, words)) return *done;
    if (words[0] == "-V" || words[0] == "--version") return show(program, fmt::format("{} {} (xen-sev)\n", program.name, XEN_SEV_VERSION));
    const bool wants_help = words[0] == "-h" || words[0] == "--help" || words[0] == "help";
    if (wants_help) words.erase(words.begin());
    if (wants_help && words.empty()) return show(program, overview(program));

    const Command* const command = take_command(program, words);
    if (!command && asks_for_family(program, words, wants_help)) return show(program, overview(program, words[0]));
    if (!command) no_such_command(program, words);
    if (wants_help) return show(program, command_help(program, *command));
    const auto arguments = parse(program, *command, words);
    if (!arguments) return show(program, command_help(program, *command));
    if (command->handles_keys) {
        keep_memory_private();
        blank_secrets(*command, argc, argv);
    }
    Console console{program.name, quiet,
                    std::ranges::find(command->arguments, "--json", &Argument::name) != command->arguments.end() && arguments->has("--json")};
    const Answer answer = command->run(*arguments, console);
    console.finish();
    return static_cast<int>(answer);
}

} // namespace
int run(const Program& program, int argc, char** argv) {
    bool quiet = false;
    try {
        return run(program, argc, argv, quiet);
    } catch (const Error& error) {
        Console{program.name, quiet, false}.complain(error.what(), error.hint());
    } catch (const std::bad_alloc&) {
        Console{program.name, quiet, false}.complain("out of memory", {});
    } catch (const std::exception& error) {
        Console{program.name, quiet, false}.complain(fmt::format("unexpected: {}", error.what()), fmt::format("this is a bug in {}", program.name));
    }
    return trouble;
}

} // namespace sev::cli
