// SPDX-License-Identifier: Apache-2.0
#include <array>

#include <fmt/format.h>

#include "attest/session.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"

namespace sev::cli {
namespace {

constexpr std::array arguments{
    Argument{.name = "--name",
             .letter = 'n',
             .kind = Kind::output_prefix,
             .metavar = "NAME",
             .help = "Begin the names of the four files so (default: vm).",
             .secret = true},
    Argument{.name = "PDH",
             .kind = Kind::input,
             .metavar = "PDH",
             .help = "The platform's PDH certificate, or an exported chain, which begins with it.",
             .required = true,
             .limit_bytes = 16 << 10},
    Argument{.name = "POLICY",
             .kind = Kind::number,
             .metavar = "POLICY",
             .help = "Guest policy, all 32 bits, decimal or 0x-hexadecimal.",
             .required = true},
    Argument{.name = "--ca",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "ASK and ARK: verify the chain in PDH first, and make no session when it is not good.",
             .limit_bytes = 16 << 10},
    root_option,
    Argument{.name = "--offer", .kind = Kind::output, .metavar = "FILE", .help = "Also write the session offer (JSON) that sevctl judge reads."},
    force_option,
    json_option,
};

psp::SevCertificate pdh_of(const psp::Chain& chain, const std::string& file) {
    if (chain.pdh) return *chain.pdh;
    const auto* const first = chain.pek ? &chain.pek : chain.oca ? &chain.oca : &chain.cek;
    throw Error{Fault::malformed, fmt::format("{}: 8h PUBKEY_USAGE: begins with {}, want a PDH", file,
                                              *first ? psp::name((*first)->usage) : std::string_view{"a CA certificate"})};
}

/// With --ca or --root the chain is verified; without, the caller is told that it was not.
bool chain_is_good(psp::Chain chain, const Arguments& given, Console& console) {
    if (!given.has("--ca") && !given.has(root_option.name)) {
        console.note("the PDH's certificate chain was not verified here: see sevctl verify");
        return true;
    }
    if (given.has("--ca")) add_ca(chain, given, "--ca");
    const psp::ChainVerdict verdict = psp::verify_chain(chain, trusted_roots(given));
    for (const psp::Check& check : verdict.checks)
        if (!check.passed) console.note(fmt::format("{}: {}", check.check, check.detail));
    return verdict.trusted();
}

Answer run(const Arguments& given, Console& console) {
    const std::string file = shown(given.text("PDH"));
    const psp::Policy policy = psp::Policy::parse(given.text("POLICY"), "POLICY");
    const std::string prefix = given.text_if("--name").value_or("vm");
    const std::array<Path, 4> targets{prefix + "_tik.bin", prefix + "_tek.bin", prefix + "_godh.b64", prefix + "_session.b64"};
    for (const Path& target : targets) check_output(target);
    const auto offer_file = given.text_if("--offer");
    if (offer_file) check_output(*offer_file);

    const psp::Chain chain = psp::parse_chain(input_bytes(given, "PDH"), file);
    const psp::SevCertificate pdh = pdh_of(chain, file);
    if (!chain_is_good(chain, given, console)) {
        console.note("the chain is not good: no session was made");
        return Answer::no;
    }
    const std::string launch_name = Path{prefix}.filename().string();
    const attest::CreatedSession created =
        within(file, [&] { return attest::create_session(pdh, policy, attest::checked_name(launch_name, "--name")); });
    if (const auto warning = attest::virtee_policy_warning(policy)) console.warn(*warning);

    FileSet files{given.existing()};
    files.stage(targets[0], created.session.tik().reveal(), Visibility::secret);
    files.stage(targets[1], created.session.tek().reveal(), Visibility::secret);
    files.stage(targets[2], as_bytes(base64(created.offer.godh)), Visibility::readable);
    files.stage(targets[3], as_bytes(base64(created.offer.session)), Visibility::readable);
    if (offer_file) files.stage(*offer_file, as_bytes(json::pretty(created.offer.to_json())), Visibility::readable);
    files.commit();

    if (console.json()) {
        json::Value result = result_of(given);
        result["policy"] = policy.value;
        result["policy_text"] = policy.text();
        result["pdh_fingerprint"] = hex(pdh.fingerprint());
        result["session_id"] = hex(created.offer.session_id);
        result["files"] = {
            {"tik", targets[0].string()}, {"tek", targets[1].string()}, {"godh", targets[2].string()}, {"session", targets[3].string()}};
        if (offer_file) result["files"]["offer"] = *offer_file;
        console.print(result);
    }
    return Answer::yes;
}

} // namespace

const Command session_command{
    .name = "session",
    .summary = "make the guest owner's keys and session for one launch",
    .text =
        "Makes fresh keys for one launch on the platform whose PDH this is, and writes NAME_tik.bin and NAME_tek.bin (the guest owner's, mode 0600: "
        "keep "
        "them), NAME_godh.b64 and NAME_session.b64 (for the host, as QEMU and libvirt take them). All four appear, or none.\n\n"
        "A session is good for one launch. The whole 32-bit policy is under the session's POLICY_MAC; a warning says when virtee's sevctl 0.6 would "
        "have used another value.\n\n"
        "Whoever holds the private half of an unverified PDH can read the session's keys: with --ca or --root the chain in PDH is verified first.",
    .example = "sevctl session --name guest7 platform.chain 5",
    .arguments = arguments,
    .run = run,
    .handles_keys = true,
};

} // namespace sev::cli
