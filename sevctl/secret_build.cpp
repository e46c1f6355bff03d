// SPDX-License-Identifier: Apache-2.0
#include <array>

#include <fmt/format.h>

#include "attest/secret_packet.hpp"
#include "attest/secret_table.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"

namespace sev::cli {
namespace {

constexpr std::array arguments{
    Argument{.name = "--tik",
             .kind = Kind::input_or_text,
             .metavar = "TIK",
             .help = "The session's TIK, 16 bytes: a file, or base64 (which others can see).",
             .required = true,
             .secret = true,
             .limit_bytes = 16},
    Argument{.name = "--tek",
             .kind = Kind::input_or_text,
             .metavar = "TEK",
             .help = "The session's TEK, likewise.",
             .required = true,
             .secret = true,
             .limit_bytes = 16},
    Argument{.name = "--launch-measure-blob",
             .kind = Kind::input_or_text,
             .metavar = "BLOB",
             .help = "Output of LAUNCH_MEASURE, 48 bytes (or MEASURE alone, 32): a file or base64.",
             .required = true,
             .limit_bytes = 48},
    Argument{.name = "--secret",
             .kind = Kind::labelled_input,
             .metavar = "GUID:FILE",
             .help = "A secret and its GUID. Repeatable; the order is kept.",
             .required = true,
             .repeated = true,
             .content = Content::opaque,
             .limit_bytes = 16 << 10},
    Argument{.name = "--iv",
             .metavar = "IV",
             .help = "IV, 16 bytes of base64, for tests: an IV that is used twice gives both secrets away.",
             .hidden = true},
    Argument{.name = "HEADER",
             .kind = Kind::output,
             .metavar = "HEADER",
             .help = "Where to write the packet header (binary, 52 bytes).",
             .required = true},
    Argument{.name = "PAYLOAD",
             .kind = Kind::output,
             .metavar = "PAYLOAD",
             .help = "Where to write the encrypted secret table (binary).",
             .required = true},
    json_option,
};

attest::SecretEntry secret_entry(const std::string& text, std::uint64_t limit_bytes) {
    const auto colon = text.find(':');
    if (colon == std::string::npos)
        throw Error{Fault::usage, fmt::format("--secret is {}, want GUID:FILE", text.empty() ? "empty" : printable(text))};
    const auto guid = measure::Guid::parse(std::string_view{text}.substr(0, colon));
    if (!guid) throw Error{Fault::usage, fmt::format("--secret: {} is no GUID, want 8-4-4-4-12 hex digits", printable(text.substr(0, colon)))};
    const std::string file = text.substr(colon + 1);
    SecretBytes data = read_secret(file, static_cast<std::size_t>(limit_bytes));
    if (data.size() == 0) throw Error{Fault::malformed, fmt::format("{}: 0 bytes, want a secret of at least 1", shown(file))};
    return {*guid, std::move(data)};
}

Answer run(const Arguments& given, Console& console) {
    const Path header_file{given.text("HEADER")}, payload_file{given.text("PAYLOAD")};
    check_output(header_file);
    check_output(payload_file);
    if (header_file.lexically_normal() == payload_file.lexically_normal())
        throw Error{Fault::usage, fmt::format("HEADER and PAYLOAD: {} is named for both, want two files", shown(header_file))};
    std::optional<ByteArray<16>> iv;
    if (given.has("--iv")) iv = wire::bytes<0, 16>(wire::exactly<16>(unbase64(given.text("--iv"), "--iv"), "--iv"));
    const auto tik = key_argument<psp::Tik>(given, console, "--tik");
    const auto tek = key_argument<psp::Tek>(given, console, "--tek");
    const Bytes blob = file_or_base64(given, "--launch-measure-blob", {48, 32});
    Digest measure{};
    std::ranges::copy(ByteView{blob}.first<32>(), measure.begin());

    std::vector<attest::SecretEntry> entries;
    for (const std::string& text : given.all("--secret")) entries.push_back(secret_entry(text, given.argument("--secret").limit_bytes));
    const SecretBytes table = attest::build_secret_table(entries);
    constexpr psp::ApiVersion api{0, 17}; // the first whose packets are bound to MEASURE, as all since
    const attest::SealedPacket packet = attest::seal_for_measurement(tek, tik, api, measure, table.reveal(), iv);

    FileSet files{Existing::replace};
    files.stage(header_file, packet.header.serialize(), Visibility::readable);
    files.stage(payload_file, packet.data, Visibility::readable);
    files.commit();
    if (console.json()) {
        json::Value result = result_of(given);
        result["header"] = header_file.string();
        result["payload"] = payload_file.string();
        result["payload_bytes"] = packet.data.size();
        result["guids"] = json::Value::array();
        for (const attest::SecretEntry& entry : entries) result["guids"].push_back(entry.guid.text());
        console.print(result);
    } else {
        console.print(fmt::format("Wrote header to: {}\nWrote payload to: {}\n", given.text("HEADER"), given.text("PAYLOAD")));
    }
    return Answer::yes;
}

} // namespace

const Command secret_build_command{
    .name = "secret build",
    .summary = "seal secrets for one launch that you trust",
    .text =
        "Puts secrets into a table as OVMF reads it, encrypts it under TEK, and binds it to this launch's MEASURE under TIK. The two files are what "
        "sev-inject-launch-secret and virsh domsetlaunchsecstate take, once encoded in base64.\n\n"
        "Nothing is judged here: first compare the reported measurement with sevctl measurement build, or use sevctl judge.",
    .example = "sevctl secret build --tik vm_tik.bin --tek vm_tek.bin --launch-measure-blob reported.b64 --secret "
               "736869e5-84f0-4973-92ec-06879ce3da0b:disk.key "
               "header.bin payload.bin",
    .arguments = arguments,
    .run = run,
    .handles_keys = true,
};

} // namespace sev::cli
