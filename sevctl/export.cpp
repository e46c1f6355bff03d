// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "sevctl/certificate_forms.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/platform.hpp"
#include "sevctl/signed_cek.hpp"

namespace sev::cli {
namespace {

constexpr std::array arguments{
    Argument{.name = "FILE", .kind = Kind::output, .metavar = "FILE", .help = "Where to write; - is stdout.", .required = true},
    Argument{.name = "--full", .letter = 'f', .kind = Kind::flag, .help = "Also ASK and ARK: the whole chain."},
    Argument{.name = "--certificate",
             .letter = 'c',
             .kind = Kind::choice,
             .metavar = "NAME",
             .help = "Only this certificate of the chain.",
             .choices = "pdh|pek|oca|cek|ask|ark"},
    form_option,
    Argument{.name = "--unsigned",
             .kind = Kind::flag,
             .help = "Take the CEK as the firmware gives it, without AMD's signature. Such a chain proves nothing by itself."},
    cek_option,
    ca_option,
    cache_option,
    root_option,
    device_option,
    force_option,
    json_option,
};

/// The platform's certificates with the CEK that AMD signed, and AMD's own.
psp::Chain endorsed(const Arguments& given, const NamedEndorsement& named, const std::vector<psp::Root>& roots, Platform& platform, psp::Chain chain,
                    bool needs_ca, std::string& source) {
    const auto search = find_signed_cek(given, named, *chain.cek, roots);
    if (!search.found)
        throw Error{Fault::system,
                    fmt::format("the platform's CEK comes without AMD's signature, and its signed form is not at hand: {}", search.reason),
                    how_to_get_cek(platform.chip_ids(), *chain.cek) + "; or export without it: --unsigned"};
    chain.cek = search.found->cek;
    source = search.found->source;
    chain.ask = search.found->ask;
    chain.ark = search.found->ark;
    if (needs_ca && (!chain.ask || !chain.ark))
        throw Error{Fault::system, fmt::format("{}: has no ASK and ARK with it", shown(source)), "name them: --ca ask_ark_PRODUCT.cert"};
    return chain;
}

/// What is written: the chain, or one certificate of it.
Bytes content(const Arguments& given, const psp::Chain& chain) {
    const std::string form = given.text_if(form_option.name).value_or("binary");
    const auto name = given.text_if("--certificate");
    if (!name) return chain.serialize();
    if (*name == "pdh") return in_form(*chain.pdh, form);
    if (*name == "pek") return in_form(*chain.pek, form);
    if (*name == "oca") return in_form(*chain.oca, form);
    if (*name == "cek") return in_form(*chain.cek, form);
    return in_form(*name == "ask" ? *chain.ask : *chain.ark, form);
}

Answer run(const Arguments& given, Console& console) {
    const Path file{given.text("FILE")};
    if (file != "-") check_output(file);
    const auto name = given.text_if("--certificate");
    const bool full = given.has("--full"), is_unsigned = given.has("--unsigned");
    if (!name && given.has(form_option.name))
        throw Error{Fault::usage, "--format is for one certificate, and a chain is always binary", "add --certificate NAME"};
    if (name && full) throw Error{Fault::usage, "--full and --certificate: want one of them"};
    const bool needs_ca = full || (name && (*name == "ask" || *name == "ark"));
    const bool needs_endorsement = needs_ca || !name || *name == "cek";
    if (is_unsigned && needs_ca) throw Error{Fault::usage, "--unsigned leaves out what AMD signed, so neither ASK nor ARK can be exported with it"};
    if (file == "-" && console.json()) throw Error{Fault::usage, "FILE is -, and --json wants stdout too: want one of them"};

    const NamedEndorsement named = named_endorsement(given);
    const std::vector<psp::Root> roots = trusted_roots(given);
    Platform platform = open_for_certificates(given, console);
    const psp::PlatformCertificates own = platform.certificates();
    psp::Chain chain{.pdh = own.pdh, .pek = own.pek, .oca = own.oca, .cek = own.cek, .ask = {}, .ark = {}};
    std::string source;
    if (needs_endorsement && !is_unsigned) chain = endorsed(given, named, roots, platform, std::move(chain), needs_ca, source);
    if (!full && !needs_ca) chain.ask.reset(), chain.ark.reset();
    const Bytes bytes = content(given, chain);
    write_output(console, file, bytes, Visibility::readable, given.existing());
    if (is_unsigned) console.warn("the CEK is without AMD's signature: whoever gets this must look for the signed one");
    if (console.json()) {
        json::Value result = platform_result(given, platform);
        result["file"] = file.string();
        result["content"] = name ? *name : full ? "full chain" : "chain";
        result["size_bytes"] = bytes.size();
        result["endorsement"] = source.empty() ? json::Value() : json::Value(source);
        console.print(result);
    }
    return Answer::yes;
}

} // namespace

const Command export_command{
    .name = "export",
    .summary = "export this platform's certificate chain",
    .text = "Writes PDH, PEK, OCA and CEK (8336 bytes), with --full also ASK and ARK, as virtee's sevctl does; or one certificate of them in a form "
            "of choice.\n\n"
            "The firmware gives the CEK without AMD's signature. The signed one is taken from --cek, else from where sev-relay keeps what it "
            "fetched, else from a full "
            "chain at $SEV_CHAIN, ~/.cache/amd-sev/chain or /var/cache/amd-sev/chain. This program itself never uses a network; without the signed "
            "CEK it "
            "exports nothing, unless --unsigned says so.",
    .example = "sevctl export --full platform.chain",
    .arguments = arguments,
    .run = run,
};

} // namespace sev::cli
