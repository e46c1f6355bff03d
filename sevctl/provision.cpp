// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "sevctl/commands.hpp"
#include "sevctl/platform.hpp"

namespace sev::cli {
namespace {

constexpr std::array arguments{
    Argument{.name = "CERT",
             .kind = Kind::input,
             .metavar = "CERT",
             .help = "The owner's certificate (OCA), as sevctl generate makes it.",
             .required = true,
             .limit_bytes = 2084},
    Argument{.name = "KEY",
             .kind = Kind::input,
             .metavar = "KEY",
             .help = "Its private key (DER).",
             .required = true,
             .secret = true,
             .limit_bytes = 4096},
    yes_option,
    device_option,
    json_option,
};

psp::SevCertificate owner_certificate(const Arguments& given, const P384Key& key) {
    const std::string file = shown(given.text("CERT"));
    const psp::SevCertificate oca = psp::parse_sev_certificate(input_bytes(given, "CERT"), file);
    if (oca.usage != psp::Usage::oca) throw Error{Fault::malformed, fmt::format("{}: 8h PUBKEY_USAGE is {}, want OCA", file, psp::name(oca.usage))};
    const psp::SignatureSlot* const slot = oca.signature_by(psp::Usage::oca);
    if (!slot || !psp::signature_valid(oca, *slot, oca))
        throw Error{Fault::malformed, fmt::format("{}: is not signed by itself, as an OCA is", file)};
    if (!oca.point() || *oca.point() != key.public_point())
        throw Error{Fault::malformed, fmt::format("{}: is for another key than {} holds", file, shown(given.text("KEY"))),
                    "the two files that 'sevctl generate' wrote belong together"};
    return oca;
}

Answer run(const Arguments& given, Console& console) {
    const P384Key key = P384Key::from_der(read_secret(given.text("KEY"), static_cast<std::size_t>(given.argument("KEY").limit_bytes)).reveal(),
                                          shown(given.text("KEY")));
    const psp::SevCertificate oca = owner_certificate(given, key);

    Platform platform{given, console, psp::ccp::Access::read_write};
    const psp::PlatformStatus before = platform.status();
    if (before.guest_count != 0)
        throw Error{Fault::usage,
                    fmt::format("{}: {} guests are there, and a platform changes hands without any", shown(platform.device()), before.guest_count),
                    "stop them first"};
    if (before.externally_owned)
        throw Error{Fault::usage, fmt::format("{}: the platform has an external owner already (ALREADY_OWNED)", shown(platform.device())),
                    "give it back to itself first: sevctl reset"};
    confirm(given, console, "the platform's PDH and its own OCA are lost, and with them every exported chain and every session made for it");

    psp::SevCertificate pek = psp::run(platform.firmware(), psp::PekCsr{});
    const auto empty = std::ranges::find_if(pek.signatures, &psp::SignatureSlot::empty);
    if (empty == pek.signatures.end()) throw Error{Fault::firmware, "PEK_CSR: both signatures are there, want at least one empty"};
    psp::sign(pek, static_cast<std::size_t>(empty - pek.signatures.begin()), psp::Usage::oca, key);
    psp::run(platform.firmware(), psp::PekCertImport{.pek = pek, .oca = oca});

    // What counts is what the platform shows from now on.
    const psp::PlatformCertificates after = platform.certificates();
    if (after.oca != oca || after.pek.fingerprint() != pek.fingerprint())
        throw Error{Fault::firmware, "PEK_CERT_IMPORT succeeded, but the platform shows another owner"};
    warn_of_cached_chain(console);
    if (console.json()) {
        json::Value result = platform_result(given, platform);
        result["oca"] = hex(oca.fingerprint());
        result["pek"] = hex(after.pek.fingerprint());
        result["pdh"] = hex(after.pdh.fingerprint());
        console.print(result);
    }
    return Answer::yes;
}

} // namespace

const Command provision_command{
    .name = "provision",
    .summary = "take ownership of this platform",
    .text = "Signs the platform's PEK with the owner's key (OCA) and imports both, so that from then on the chain leads to this owner as well as to "
            "AMD. The platform must "
            "have no external owner and no guests. It makes a new PDH: chains and sessions from before are void.\n\n"
            "It asks first, or takes --yes. Certificate and key are checked before the device is touched.",
    .example = "sevctl provision oca.cert oca.key",
    .arguments = arguments,
    .run = run,
    .handles_keys = true,
};

} // namespace sev::cli
