// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdlib>
#include <initializer_list>
#include <memory>

#include "ovmf-measure/vmsa.hpp"
#include "psp/certificate.hpp"
#include "psp/chain.hpp"
#include "psp/keys.hpp"
#include "psp/structures.hpp"
#include "console/command.hpp"

/// How commands read their file arguments and write their results. Messages name the file; limits come from the command table.
namespace sev::cli {

/// The path as messages show it.
std::string shown(const Path& path);

/// A whole input file. Throws Error that names the file when it is absent, unreadable, no regular file, or larger than the table allows.
Bytes input_bytes(const Arguments& arguments, std::string_view name);
/// An input file of exactly Size bytes.
template <std::size_t Size>
ByteArray<Size> input_array(const Arguments& arguments, std::string_view name) {
    const Bytes bytes = input_bytes(arguments, name);
    ByteArray<Size> out{};
    std::ranges::copy(wire::exactly<Size>(bytes, shown(arguments.text(name))), out.begin());
    return out;
}

/// sevctl's "path or base64": the raw content of the file of that name if there is one, else the decoded text. As long as one of `sizes` says.
Bytes file_or_base64(const Arguments& arguments, std::string_view name, std::initializer_list<std::size_t> sizes);
/// Same for a key of 16 bytes or so, in wiped memory; a key given on the command line gets a warning.
SecretBytes secret_file_or_base64(const Arguments& arguments, Console& console, std::string_view name, std::size_t size_bytes);
template <class Key>
Key key_argument(const Arguments& arguments, Console& console, std::string_view name) {
    const SecretBytes bytes = secret_file_or_base64(arguments, console, name, Key::size_bytes);
    return Key{std::span<const std::uint8_t, Key::size_bytes>{bytes.reveal().data(), Key::size_bytes}};
}

/// The bytes of a firmware image: not empty, a multiple of 4096 bytes (a flash block), within the table's limit.
class Firmware {
public:
    Firmware(const Arguments& arguments, std::string_view name);
    ByteView bytes() const noexcept { return {data_.get(), size_bytes_}; }
    const Path& path() const noexcept { return path_; }

private:
    struct Free {
        void operator()(std::uint8_t* data) const noexcept { std::free(data); }
    };
    Path path_;
    std::unique_ptr<std::uint8_t, Free> data_;
    std::size_t size_bytes_ = 0;
};

/// SHA-256 of a kernel or ramdisk of any size that fw_cfg can hold. An empty file is refused unless the table says Content::any; so is /dev/null,
/// which otherwise stands for an empty one.
FileDigest digest_input(const Arguments& arguments, std::string_view name);

/// --ca FILE: ASK‖ARK, into the chain.
void add_ca(psp::Chain& chain, const Arguments& arguments, std::string_view name);

/// Options that all commands share which verify a chain: --root.
inline constexpr Argument root_option{
    .name = "--root",
    .kind = Kind::input_or_text,
    .metavar = "ROOT",
    .help = "Trust this root too: LABEL:PRODUCT:FINGERPRINT (SHA-256 of the ARK's signed bytes, hex), or a file with one "
            "such line for each root. AMD's own roots are always known. Repeatable.",
    .repeated = true,
    .limit_bytes = 64 << 10};
/// Of a chip that AMD's key server does not know.
inline constexpr Argument pin_option{
    .name = "--pin-cek",
    .kind = Kind::input_or_text,
    .metavar = "CHIP",
    .help = "Where AMD's endorsement is missing, trust this very chip by your own word: LABEL:PRODUCT:FINGERPRINT (of its CEK, "
            "hex, as sevctl verify --json shows it), or a file with one such line for each chip. Repeatable.",
    .repeated = true,
    .limit_bytes = 64 << 10};
/// AMD's roots, those that --root names, and, for a command that has it, the chips that --pin-cek names. Throws Error{Fault::usage} or
/// {Fault::malformed} with file and line.
std::vector<psp::Root> trusted_roots(const Arguments& arguments);

/// Refuses an output path that is no place for a file (a directory, a device), before any work is done.
void check_output(const Path& path);
/// Writes one result: to `path`, or to stdout for "-" (not to a terminal).
void write_output(Console& console, const Path& path, ByteView bytes, Visibility visibility, Existing existing);

/// A new result object: "format" is "xen-sev/sevctl-vmsa-build" and the like, "version" 1. Its schema is docs/schemas/sevctl-vmsa-build.schema.json.
json::Value result_of(const Arguments& arguments);
/// {"check", "passed", "detail"} of each check.
json::Value checks_as_json(const std::vector<psp::Check>& checks);

} // namespace sev::cli
