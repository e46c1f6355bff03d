// SPDX-License-Identifier: Apache-2.0
#include <array>

#include <fmt/format.h>

#include "ovmf-measure/firmware_table.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"

namespace sev::cli {
namespace {

constexpr Argument cpu{.name = "--cpu",
                       .kind = Kind::number,
                       .metavar = "N",
                       .help = "Number of the vCPU: 0 is the one that boots, all others are alike.",
                       .required = true};
constexpr Argument family{.name = "--family", .kind = Kind::number, .metavar = "N", .help = "CPU family, such as 25."};
constexpr Argument model{.name = "--model", .kind = Kind::number, .metavar = "N", .help = "CPU model."};
constexpr Argument stepping{.name = "--stepping", .kind = Kind::number, .metavar = "N", .help = "CPU stepping."};
constexpr Argument firmware{.name = "--firmware",
                            .kind = Kind::input,
                            .metavar = "FILE",
                            .help = "Flash image (OVMF), which says where vCPUs other than 0 start.",
                            .limit_bytes = 16 << 20};
constexpr Argument userspace{
    .name = "--userspace", .kind = Kind::choice, .metavar = "VMM", .help = "qemu or krun.", .choices = "qemu|krun", .required = true};

constexpr std::array build_arguments{
    Argument{.name = "FILE", .kind = Kind::output, .metavar = "FILE", .help = "Where to write the page (4096 bytes); - is stdout.", .required = true},
    cpu,
    family,
    model,
    stepping,
    firmware,
    userspace,
    Argument{.name = "--profile",
             .metavar = "PROFILE",
             .help =
                 "How the VMM sets the page up: kvm-legacy (as sevctl has it, default with qemu), kvm-init2, ec2, gce, krun; @VERSION may follow."},
    json_option,
};
constexpr std::array update_arguments{
    Argument{.name = "FILE",
             .kind = Kind::update,
             .metavar = "FILE",
             .help = "The page to change in place (4096 bytes).",
             .required = true,
             .limit_bytes = 4096},
    cpu,
    family,
    model,
    stepping,
    firmware,
    userspace,
    json_option,
};
constexpr std::array show_arguments{
    Argument{.name = "FILE", .kind = Kind::input, .metavar = "FILE", .help = "The page to show (4096 bytes).", .required = true, .limit_bytes = 4096},
    json_option,
};
constexpr std::array diff_arguments{
    Argument{.name = "LEFT", .kind = Kind::input, .metavar = "LEFT", .help = "One page (4096 bytes).", .required = true, .limit_bytes = 4096},
    Argument{.name = "RIGHT", .kind = Kind::input, .metavar = "RIGHT", .help = "The other.", .required = true, .limit_bytes = 4096},
    json_option,
};

measure::Vmsa read_page(const Arguments& given, std::string_view name) {
    return measure::parse_vmsa(input_bytes(given, name), shown(given.text(name)));
}

unsigned cpu_number(const Arguments& given) { return static_cast<unsigned>(given.number("--cpu", 0, measure::max_vcpus - 1)); }

/// nullopt when none of the three is given, or all are 0: sevctl leaves RDX as it is then.
std::optional<measure::CpuSignature> signature_of(const Arguments& given) {
    const auto part = [&](std::string_view name) { return static_cast<unsigned>(given.number_if(name, 0, 4095).value_or(0)); };
    const unsigned f = part("--family"), m = part("--model"), s = part("--stepping");
    if (f == 0 && m == 0 && s == 0) return std::nullopt;
    return measure::CpuSignature::of(f, m, s);
}

std::optional<std::uint32_t> reset_address_of(const Arguments& given, bool needed) {
    if (!given.has("--firmware")) return std::nullopt;
    const Firmware image{given, "--firmware"};
    return within(shown(image.path()), [&]() -> std::optional<std::uint32_t> {
        const auto table = measure::FirmwareTable::parse(image.bytes());
        return needed ? std::optional{table.need_ap_reset_address()} : table.ap_reset_address;
    });
}

void report(const Arguments& given, Console& console, const measure::Vmsa& page, const measure::VmsaProfile* profile) {
    if (!console.json()) return;
    json::Value result = result_of(given);
    result["file"] = given.text("FILE");
    result["cpu"] = cpu_number(given);
    if (profile) result["profile"] = fmt::format("{}@{}", profile->name, profile->version);
    if (profile) result["unverified"] = profile->unverified;
    result["sha256"] = hex(sha256(page));
    console.print(result);
}

Answer build(const Arguments& given, Console& console) {
    const bool krun = given.text("--userspace") == "krun";
    const auto& profile = measure::vmsa_profile(given.text_if("--profile").value_or(krun ? "krun" : "kvm-legacy"));
    const unsigned number = cpu_number(given);
    const bool needs_reset = number != 0 && profile.uses_reset_address();
    if (needs_reset && !given.has("--firmware"))
        throw Error{Fault::usage, fmt::format("--firmware is missing: it says where vCPU {} starts", number)};
    const measure::VmsaInput input{.signature = signature_of(given).value_or(measure::CpuSignature{}),
                                   .ap_reset_address = reset_address_of(given, needs_reset)};
    const measure::Vmsa page = measure::build_vmsa(profile, number, input);
    if (given.text("FILE") == "-" && console.json()) throw Error{Fault::usage, "FILE is - (stdout) and --json is given, want one of them"};
    write_output(console, given.text("FILE"), page, Visibility::readable, Existing::replace);
    // what is open about the kvm profiles is small print for the manual; the others are unproven as a whole
    if (!profile.unverified.empty() && !profile.name.starts_with("kvm-"))
        console.warn(fmt::format("profile {}: {}", profile.name, profile.unverified));
    report(given, console, page, &profile);
    return Answer::yes;
}

Answer update(const Arguments& given, Console& console) {
    measure::Vmsa page = read_page(given, "FILE");
    const unsigned number = cpu_number(given);
    if (const auto signature = signature_of(given)) measure::set(page, "rdx", signature->value);
    const bool moves = number != 0 && given.text("--userspace") == "qemu";
    const auto reset = reset_address_of(given, moves);
    if (moves && reset) {
        measure::set(page, "cs.base", *reset & 0xFFFF'0000);
        measure::set(page, "rip", *reset & 0xFFFF);
    }
    check_output(given.text("FILE"));
    write_file(given.text("FILE"), page, Visibility::readable, Existing::replace);
    report(given, console, page, nullptr);
    return Answer::yes;
}

/// The JSON that virtee's sevctl prints: its field names, in its order, numbers in decimal.
json::Value sevctl_form(const measure::Vmsa& page) {
    json::Value out = json::Value::object();
    for (const measure::VmsaValue& value : measure::describe(page, measure::vmsa_sevctl_fields())) {
        const std::string name{value.field.name};
        const auto dot = name.find('.');
        json::Value shown_value = value.field.is_array ? json::Value(value.bytes) : json::Value(value.number);
        if (dot == std::string::npos)
            out[name] = std::move(shown_value);
        else
            out[name.substr(0, dot)][name.substr(dot + 1)] = std::move(shown_value);
    }
    return out;
}

Answer show(const Arguments& given, Console& console) {
    const measure::Vmsa page = read_page(given, "FILE");
    if (!console.json()) {
        console.print(sevctl_form(page));
        return Answer::yes;
    }
    json::Value result = result_of(given);
    result["file"] = given.text("FILE");
    result["sha256"] = hex(sha256(page));
    result["fields"] = json::Value::object();
    for (const measure::VmsaValue& value : measure::describe(page)) result["fields"][std::string{value.field.name}] = value.text;
    result["stray_bytes"] = json::Value::array();
    for (const measure::StrayByte& stray : measure::stray_bytes(page))
        result["stray_bytes"].push_back({{"offset", stray.offset}, {"value", stray.value}});
    console.print(result);
    return Answer::yes;
}

Answer diff(const Arguments& given, Console& console) {
    const auto differences = measure::diff(read_page(given, "LEFT"), read_page(given, "RIGHT"));
    if (console.json()) {
        json::Value result = result_of(given);
        result["equal"] = differences.empty();
        result["differences"] = json::Value::array();
        for (const auto& one : differences) result["differences"].push_back({{"field", one.field}, {"left", one.left}, {"right", one.right}});
        console.print(result);
    } else {
        for (const auto& one : differences) console.print(fmt::format("{:<16} {} -> {}\n", one.field, one.left, one.right));
    }
    return differences.empty() ? Answer::yes : Answer::no;
}

} // namespace

const Command vmsa_build_command{
    .name = "vmsa build",
    .summary = "make the initial register page of a vCPU",
    .text = "Writes the VMSA of one vCPU as the VMM sets it up before an SEV-ES launch; the page is part of the launch digest. --userspace qemu is "
            "the page of "
            "the older KVM interface (KVM_SEV_ES_INIT), byte for byte that of virtee's sevctl; newer QEMU and Linux (KVM_SEV_INIT2) set the "
            "floating-point "
            "fields as well: --profile kvm-init2.\n\n"
            "A vCPU other than 0 needs --firmware, for the address it starts at.",
    .example = "sevctl vmsa build vmsa1.bin --cpu 1 --family 25 --model 1 --stepping 1 --firmware OVMF.fd --userspace qemu",
    .arguments = build_arguments,
    .run = build,
};
const Command vmsa_update_command{
    .name = "vmsa update",
    .summary = "change CPU signature and start address of a register page",
    .text = "Changes a VMSA in place: the CPU signature when family, model or stepping is given, and with --firmware, for a vCPU other than 0, the "
            "address it "
            "starts at. All other bytes stay.",
    .example = "sevctl vmsa update vmsa1.bin --cpu 1 --family 23 --model 1 --stepping 2 --userspace qemu",
    .arguments = update_arguments,
    .run = update,
};
const Command vmsa_show_command{
    .name = "vmsa show",
    .summary = "show a register page",
    .text = "Prints a VMSA as JSON with the field names of virtee's sevctl, which knows the page up to 407h. --json shows every field that the AMD64 "
            "manual "
            "names, in hexadecimal, the page's SHA-256, and bytes that are set outside all fields.",
    .example = "sevctl vmsa show vmsa0.bin",
    .arguments = show_arguments,
    .run = show,
};
const Command vmsa_diff_command{
    .name = "vmsa diff",
    .summary = "compare two register pages, field by field",
    .text = "Lists the fields in which two VMSAs differ. Exit status 0: none; 1: some.",
    .example = "sevctl vmsa diff expected.bin captured.bin",
    .arguments = diff_arguments,
    .run = diff,
};

} // namespace sev::cli
