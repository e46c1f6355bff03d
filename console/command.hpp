// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "base/file.hpp"
#include "base/json.hpp"

/// A program's one command table: what a command is called, what it takes and what runs it. Parsing, help, the man page, shell completion and the
/// tests of bad input all read it, so that none of them can forget an option. Everything here is constant data: nothing is built before main.
namespace sev::cli {

/// What an argument's value is.
enum class Kind {
    flag,           // no value
    text,
    number,         // decimal or 0x-hexadecimal
    real,           // decimal, perhaps with a fraction: seconds
    choice,         // one of `choices`
    input,          // an existing regular file
    input_or_text,  // a file if one of that name exists, else the value itself (base64, or a list entry)
    labelled_input, // LABEL:FILE
    placed_input,   // FILE@ADDRESS
    output,         // a file to write
    update,         // a file to read and to write back
    output_prefix,  // several files whose names begin so
    directory,      // an existing directory, or one to make
    path,           // of a socket
    program,        // positional: the words after "--", which are no options of ours
};
/// Name of a kind in the dump of the table: "flag" … "program".
std::string_view name(Kind kind);

/// What an input file may hold, as far as the table knows it.
enum class Content {
    structured, // a format: a wrong length or a broken field is found
    opaque,     // any bytes, but at least one
    any,        // any bytes, or none
};

/// One option ("--tik") or positional argument ("PDH").
struct Argument {
    std::string_view name = {};
    char letter = 0; // of the short spelling, such as 'n'; 0: there is none
    Kind kind = Kind::text;
    std::string_view metavar = {};
    std::string_view help = {};
    std::string_view choices = {}; // "qemu|krun"
    bool required = false, repeated = false, hidden = false;
    bool secret = false; // key material: never shown, and better in a file than on a command line
    Content content = Content::structured;
    std::uint64_t limit_bytes = 0; // of an input file

    constexpr bool positional() const { return !name.starts_with('-'); }
    constexpr bool takes_value() const { return kind != Kind::flag; }
    constexpr bool reads_file() const {
        return kind == Kind::input || kind == Kind::input_or_text || kind == Kind::labelled_input || kind == Kind::placed_input ||
               kind == Kind::update;
    }
    constexpr bool writes_file() const { return kind == Kind::output || kind == Kind::update || kind == Kind::output_prefix; }
};

class Arguments;
class Console;

/// Exit status, as in grep. A command that runs another program may answer with that one's.
enum class Answer : int { yes = 0, no = 1 }; // 2, trouble, is an Error

struct Command {
    std::string_view name;    // "vmsa build": sevctl's two-word spelling; "vmsa-build" is the same command
    std::string_view summary; // one line, for lists
    std::string_view text;    // for the man page and --help: paragraphs separated by an empty line
    std::string_view example; // one command line
    std::span<const Argument> arguments;
    Answer (*run)(const Arguments&, Console&);
    bool handles_keys = false; // no core dump, no debugger
    bool hidden = false;
};

inline constexpr Argument json_option{.name = "--json", .kind = Kind::flag, .help = "Print the result as JSON (schema in docs/schemas)."};
inline constexpr Argument force_option{.name = "--force", .kind = Kind::flag, .help = "Replace files that exist already."};

/// A program: its command table, and what its manual says besides. The texts are mdoc.
struct Program {
    std::string_view name;        // "sevctl"
    std::string_view summary;     // one line without a full stop, for NAME and --help
    std::string_view description; // DESCRIPTION, up to the options before the command
    std::string_view sections;    // whole sections between COMMANDS and EXAMPLES: FILES, ENVIRONMENT, EXIT STATUS
    std::string_view closing;     // whole sections after EXAMPLES
    std::span<const Command* const> commands; // in the order of the manual
    char manual_section = '1';                // '8' for a daemon

    /// "vmsa build" or "vmsa-build"; nullptr when there is none.
    const Command* find(std::string_view name) const;
};

/// The values of one command line, read through the command's own table entries.
class Arguments {
public:
    Arguments(const Program& program, const Command& command) : program_{&program}, command_{&command} {}
    const Program& program() const noexcept { return *program_; }
    const Command& command() const noexcept { return *command_; }
    void add(std::string_view name, std::vector<std::string> values) { values_.emplace_back(name, std::move(values)); }

    bool has(std::string_view name) const { return find(name) != nullptr; }
    /// The value of an argument that was given. Throws Error{Fault::usage} when it was not.
    const std::string& text(std::string_view name) const;
    std::optional<std::string> text_if(std::string_view name) const;
    /// All values of a repeated argument, in order; none when it was not given.
    std::span<const std::string> all(std::string_view name) const;
    /// A decimal or 0x-hexadecimal number. Throws Error{Fault::usage} that names the option, what was given and the range.
    std::uint64_t number(std::string_view name, std::uint64_t min, std::uint64_t max) const;
    std::optional<std::uint64_t> number_if(std::string_view name, std::uint64_t min, std::uint64_t max) const;
    /// A decimal number, perhaps with a fraction. Throws as `number` does.
    std::optional<double> real_if(std::string_view name, double min, double max) const;
    Existing existing() const { return has("--force") ? Existing::replace : Existing::refuse; }
    /// The table entry. Throws Error{Fault::bug} when the command has none of that name.
    const Argument& argument(std::string_view name) const;

private:
    const std::vector<std::string>* find(std::string_view name) const;
    const Program* program_;
    const Command* command_;
    std::vector<std::pair<std::string_view, std::vector<std::string>>> values_;
};

/// Reads one number as the options do. Throws Error{Fault::usage} "<what> is <text>, want a number from <min> to <max>".
std::uint64_t parse_number(std::string_view text, std::string_view what, std::uint64_t min, std::uint64_t max);

/// Where a command talks: stdout is the result, stderr everything else. Quiet says nothing at all; the exit status speaks.
class Console {
public:
    Console(std::string_view program, bool quiet, bool json) : program_{program}, quiet_{quiet}, json_{json} {}
    bool json() const noexcept { return json_; }
    /// Text for eyes; what scripts read when no --json is given.
    void print(std::string_view text);
    /// The object of --json, for people to read as well.
    template <std::same_as<json::Value> Value>
    void print(const Value& value) {
        print(std::string_view{json::pretty(value)});
    }
    /// Raw bytes to stdout. Throws Error{Fault::usage} when that is a terminal.
    void binary(ByteView bytes);
    /// "PROGRAM: warning: …" on stderr.
    void warn(std::string_view text);
    /// "PROGRAM: note: …" on stderr.
    void note(std::string_view text);
    /// "PROGRAM: error: …" and, when there is one, "PROGRAM: hint: …" on stderr: why there is no answer, or why it is no.
    void complain(std::string_view reason, std::string_view hint);
    /// Hands everything to the operating system. Throws Error{Fault::system} when stdout cannot take it: half a result is no result.
    void finish();

private:
    std::string_view program_;
    bool quiet_, json_;
};

} // namespace sev::cli
