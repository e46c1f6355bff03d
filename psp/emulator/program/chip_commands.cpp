// SPDX-License-Identifier: Apache-2.0
#include <array>

#include <fmt/format.h>

#include "base/json.hpp"
#include "psp/emulator/emulator.hpp"
#include "psp/emulator/program/commands.hpp"

namespace sev::psp::emulator {
namespace {

using cli::Answer;
using cli::Argument;
using cli::Arguments;
using cli::Kind;

std::string root_of(const Identity& identity) {
    return fmt::format("{}:{}:{}", identity.personality, name(identity.product), hex(identity.ark.fingerprint()));
}

json::Value describe(const Identity& identity, const Personality& personality) {
    return {{"format", "xen-sev/emulated-psp"},
            {"version", 1},
            {"personality", personality.name},
            {"title", personality.title},
            {"product", name(personality.product)},
            {"firmware", personality.build.text()},
            {"max_asid", personality.max_asid},
            {"min_sev_asid", personality.min_sev_asid},
            {"c_bit", personality.c_bit},
            {"address_reduction", personality.address_reduction},
            {"cpuid_8000001f_eax", personality.cpuid_8000001f_eax},
            {"chip_id", hex(identity.chip_id)},
            {"root", root_of(identity)},
            {"root_fingerprint", hex(identity.ark.fingerprint())},
            {"cek_fingerprint", hex(identity.cek.fingerprint())}};
}

void describe(const Emulator& emulator, cli::Console& console) {
    const Identity& identity = emulator.identity();
    const Personality& personality = emulator.personality();
    if (console.json()) {
        console.print(describe(identity, personality));
        return;
    }
    console.print(fmt::format("emulated PSP   {} (not AMD hardware)\n", personality.title));
    console.print(fmt::format("firmware       {}\n", personality.build.text()));
    console.print(fmt::format("ASIDs          {}: 1 … {} for SEV-ES, the rest for SEV\n", personality.max_asid, personality.min_sev_asid - 1));
    console.print(fmt::format("chip id        {}\n               {}\n", hex(identity.chip_id).substr(0, 64), hex(identity.chip_id).substr(64)));
    console.print(fmt::format("CEK            {}\n", hex(identity.cek.fingerprint())));
    console.print(fmt::format("root           {}\n", hex(identity.ark.fingerprint())));
    console.print(fmt::format("\nAn owner trusts it by naming that root; for sevctl verify:\n  --root {}\n", root_of(identity)));
}

Bytes certificate_authority(const Identity& identity) {
    Bytes out = identity.ask.serialize();
    const Bytes ark = identity.ark.serialize();
    out.insert(out.end(), ark.begin(), ark.end());
    return out;
}

Answer create(const Arguments& given, cli::Console& console) {
    const Personality* const personality = find_personality(given.text_if("--personality").value_or(std::string{default_personality}));
    require(personality != nullptr, "the table lists a personality that does not exist");
    describe(*Emulator::create(given.text("--state"), *personality), console);
    return Answer::yes;
}

Answer show(const Arguments& given, cli::Console& console) {
    describe(*Emulator::open(given.text("--state")), console);
    return Answer::yes;
}

Answer ca(const Arguments& given, cli::Console&) {
    write_file(given.text("--out"), certificate_authority(Emulator::open(given.text("--state"))->identity()), Visibility::readable, given.existing());
    return Answer::yes;
}

Answer cek(const Arguments& given, cli::Console&) {
    write_file(given.text("--out"), Emulator::open(given.text("--state"))->identity().cek.serialize(), Visibility::readable, given.existing());
    return Answer::yes;
}

Answer personalities(const Arguments&, cli::Console& console) {
    for (const Personality& each : all_personalities())
        console.print(fmt::format("{:<12} {}, firmware {}, {} ASIDs\n", each.name, each.title, each.build.text(), each.max_asid));
    return Answer::yes;
}

constexpr Argument state_option{.name = "--state", .kind = Kind::directory, .metavar = "DIR", .help = "The chip's directory.", .required = true};
constexpr std::array create_arguments{
    Argument{.name = "--state", .kind = Kind::directory, .metavar = "DIR", .help = "A new or empty directory to keep it in.", .required = true},
    personality_option,
    cli::json_option,
};
constexpr std::array show_arguments{state_option, cli::json_option};
constexpr std::array write_arguments{
    state_option,
    Argument{.name = "--out", .kind = Kind::output, .metavar = "FILE", .help = "File to write (binary).", .required = true},
    cli::force_option,
};

} // namespace

const cli::Command create_command{
    .name = "create",
    .summary = "make a new chip, with an identity and roots of its own",
    .text = "Makes a chip: its keys, its CEK, and an ASK and ARK of its own, and shows it.",
    .example = "sev-emulator create --state ./psp --personality epyc-7003",
    .arguments = create_arguments,
    .run = create,
    .handles_keys = true,
};

const cli::Command show_command{
    .name = "show",
    .summary = "show a chip: firmware, ASIDs, id, root",
    .text = "Shows a chip. Its root is what an owner has to name to accept it.",
    .example = "sev-emulator show --state ./psp",
    .arguments = show_arguments,
    .run = show,
    .handles_keys = true,
};

const cli::Command ca_command{
    .name = "ca",
    .summary = "write a chip's ASK and ARK",
    .text = "Writes the ASK and ARK that endorse the chip, as AMD's server gives them for AMD's.",
    .example = "sev-emulator ca --state ./psp --out ca.cert",
    .arguments = write_arguments,
    .run = ca,
    .handles_keys = true,
};

const cli::Command cek_command{
    .name = "cek",
    .summary = "write a chip's CEK, signed by its ASK",
    .text = "Writes the chip's CEK certificate, signed by its ASK, as AMD's server gives them for AMD's.",
    .example = "sev-emulator cek --state ./psp --out cek.cert",
    .arguments = write_arguments,
    .run = cek,
    .handles_keys = true,
};

const cli::Command personalities_command{
    .name = "personalities",
    .summary = "list the machines that a chip can pretend to be",
    .text = "Lists the machines that a chip can pretend to be.",
    .example = "sev-emulator personalities",
    .arguments = {},
    .run = personalities,
};

} // namespace sev::psp::emulator
