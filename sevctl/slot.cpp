// SPDX-License-Identifier: Apache-2.0
#include <array>

#include <fmt/format.h>

#include "attest/secret_archive.hpp"
#include "ovmf-measure/slot.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"

namespace sev::cli {
namespace {

constexpr std::uint64_t ramdisk_limit = std::uint64_t{1} << 30;
constexpr std::uint64_t secret_limit = 1 << 20;

constexpr std::array add_arguments{
    Argument{.name = "INITRD",
             .kind = Kind::input,
             .metavar = "INITRD",
             .help = "The guest's ramdisk.",
             .required = true,
             .content = Content::opaque,
             .limit_bytes = ramdisk_limit},
    Argument{.name = "--pages", .kind = Kind::number, .metavar = "N", .help = "Size of the slot in pages of 4096 bytes, 1 to 256."},
    Argument{.name = "--for",
             .kind = Kind::labelled_input,
             .metavar = "NAME:FILE",
             .help = "Instead of --pages: as many as this secret file needs under that name in the guest. Repeatable; its content is not kept.",
             .repeated = true,
             .content = Content::opaque,
             .limit_bytes = secret_limit},
    Argument{.name = "--outfile", .letter = 'o', .kind = Kind::output, .metavar = "FILE", .help = "The ramdisk with its slot.", .required = true},
    force_option,
    json_option,
};
constexpr std::array show_arguments{
    Argument{.name = "FILE",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "A ramdisk, or a file for smbios_firmware.",
             .required = true,
             .content = Content::opaque,
             .limit_bytes = ramdisk_limit},
    json_option,
};
constexpr std::array smbios_arguments{
    Argument{.name = "--length", .kind = Kind::number, .metavar = "N", .help = "Bytes of text that shall fit; rounded up.", .required = true},
    Argument{.name = "--outfile",
             .letter = 'o',
             .kind = Kind::output,
             .metavar = "FILE",
             .help = "The file to name in xl.cfg as smbios_firmware.",
             .required = true},
    force_option,
    json_option,
};

/// Pages that the secret files need as one archive.
std::uint64_t pages_for(const Arguments& given) {
    std::vector<attest::SecretFile> files;
    for (const std::string& text : given.all("--for")) {
        const auto colon = text.find(':');
        if (colon == std::string::npos || colon == 0) throw Error{Fault::usage, fmt::format("--for is {}, want NAME:FILE", printable(text))};
        const Path path{text.substr(colon + 1)};
        SecretBytes data = read_secret(path, given.argument("--for").limit_bytes);
        if (data.size() == 0) throw Error{Fault::malformed, fmt::format("{}: 0 bytes, want a secret", shown(path))};
        files.push_back({.name = attest::checked_secret_file_name(text.substr(0, colon)), .data = std::move(data)});
    }
    return attest::build_secret_archive(files).size() / measure::slot_page_bytes;
}

Answer add(const Arguments& given, Console& console) {
    if (given.has("--pages") == given.has("--for")) throw Error{Fault::usage, "want --pages or --for, one of the two", "see: sevctl slot add --help"};
    const Path in{given.text("INITRD")}, out{given.text("--outfile")};
    check_output(out);
    const std::uint64_t pages = given.has("--pages") ? given.number("--pages", 1, measure::ramdisk_slot_page_limit) : pages_for(given);
    const Bytes ramdisk = measure::add_ramdisk_slot(input_bytes(given, "INITRD"), pages, shown(in));
    write_output(console, out, ramdisk, Visibility::readable, given.existing());
    if (console.json()) {
        json::Value result = result_of(given);
        result["channel"] = "initrd";
        result["pages"] = pages;
        result["slot_bytes"] = pages * measure::slot_page_bytes;
        result["file_bytes"] = ramdisk.size();
        console.print(result);
    } else if (out != "-") {
        console.print(fmt::format("{}: slot of {} pages ({} bytes) for the initrd channel\n", shown(out), pages, pages * measure::slot_page_bytes));
    }
    return Answer::yes;
}

Answer show(const Arguments& given, Console& console) {
    const Bytes file = read_file(given.text("FILE"), static_cast<std::size_t>(given.argument("FILE").limit_bytes));
    const std::string name = shown(given.text("FILE"));
    if (file.empty()) throw Error{Fault::malformed, fmt::format("{}: 0 bytes, want a ramdisk or an SMBIOS slot", name)};
    const auto smbios = measure::smbios_slot(file);
    const std::uint64_t pages = smbios ? 0 : measure::ramdisk_slot_pages(file);
    const bool usable = smbios || (pages != 0 && pages <= measure::ramdisk_slot_page_limit);
    const std::uint64_t bytes = smbios ? smbios->file_bytes : pages * measure::slot_page_bytes;
    if (console.json()) {
        json::Value result = result_of(given);
        if (usable) result["channel"] = smbios ? "smbios" : "initrd";
        if (usable && !smbios) result["pages"] = pages;
        result["slot_bytes"] = usable ? bytes : 0;
        result["file_bytes"] = file.size();
        console.print(result);
    } else if (smbios) {
        console.print(fmt::format("{}: smbios channel, slot_bytes {}, {} bytes of text\n", name, bytes, smbios->string_bytes()));
    } else if (usable) {
        console.print(fmt::format("{}: initrd channel, {} pages ({} bytes)\n", name, pages, bytes));
    } else if (pages != 0) {
        console.print(
            fmt::format("{}: begins with {} zero pages, more than the {} of the largest slot\n", name, pages, measure::ramdisk_slot_page_limit));
    } else {
        console.print(fmt::format("{}: no slot\n", name));
    }
    return usable ? Answer::yes : Answer::no;
}

Answer smbios(const Arguments& given, Console& console) {
    const Path out{given.text("--outfile")};
    check_output(out);
    const Bytes file = measure::make_smbios_slot(given.number("--length", 1, measure::SmbiosSlot::limit_bytes - measure::SmbiosSlot::overhead_bytes));
    write_output(console, out, file, Visibility::readable, given.existing());
    const measure::SmbiosSlot slot{.file_bytes = file.size()};
    if (console.json()) {
        json::Value result = result_of(given);
        result["channel"] = "smbios";
        result["slot_bytes"] = slot.file_bytes;
        result["string_bytes"] = slot.string_bytes();
        console.print(result);
    } else if (out != "-") {
        console.print(fmt::format("{}: slot_bytes {}, {} bytes of text for the smbios channel\n", shown(out), slot.file_bytes, slot.string_bytes()));
    }
    return Answer::yes;
}

} // namespace

const Command slot_add_command{
    .name = "slot add",
    .summary = "put a slot for secrets in front of a guest's ramdisk",
    .text =
        "Writes the ramdisk behind zero pages. They are measured as zeros, and after a positive verdict receive an archive with the secret files, "
        "which Linux unpacks before "
        "the rest; the guest's kernel and init need no change. Use the new file both in the guest's configuration and in the owner's reference.\n\n"
        "Say how many pages with --pages, or let secret files say it with --for.",
    .example = "sevctl slot add initrd.img --for etc/disk.key:disk.key -o initrd-slot.img",
    .arguments = add_arguments,
    .run = add,
    .handles_keys = true,
};
const Command slot_show_command{
    .name = "slot show",
    .summary = "show the slot for secrets in a guest's file",
    .text = "Says which channel a ramdisk or SMBIOS file has a slot for, and how large it is. Exit status 1: it has none.",
    .example = "sevctl slot show initrd-slot.img",
    .arguments = show_arguments,
    .run = show,
};
const Command slot_smbios_command{
    .name = "slot smbios",
    .summary = "make a slot for secrets in an HVM guest's SMBIOS tables",
    .text = "Writes a file for xl.cfg's smbios_firmware: one SMBIOS structure of type 11 with a placeholder. It is measured like that, and after a "
            "positive verdict "
            "receives the credentials as strings that systemd in the guest imports by itself. An owner's secret names it: \"smbios\": "
            "{\"credential\": NAME, \"slot_bytes\": SIZE}.",
    .example = "sevctl slot smbios --length 500 -o smbios-slot.bin",
    .arguments = smbios_arguments,
    .run = smbios,
};

} // namespace sev::cli
