// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "console/layout.hpp"
#include "sevctl/certificate_cache.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"

namespace sev::cli {
namespace {

using endorsement::Authority;

constexpr std::array arguments{
    Argument{.name = "FILE",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "ASK and ARK (ask_ark_PRODUCT.cert, or one file each), a CEK signed by AMD, a full chain, or a text of 128 hex digits that "
                     "names the CEK's chip.",
             .required = true,
             .repeated = true,
             .limit_bytes = 16 << 10},
    Argument{
        .name = "--id", .metavar = "HEX", .help = "The chip that the CEK belongs to: 128 hex digits. Not needed when the CEK's file is called so."},
    root_option,
    endorsement_cache_option,
    json_option,
};

template <class Certificate>
struct From {
    Certificate certificate;
    std::string file;
};
struct CekFrom {
    psp::SevCertificate cek;
    std::string file;
    std::optional<psp::ChipId> id; // by the file's name
};

/// What the files hold, not verified.
struct Found {
    std::vector<From<psp::CaCertificate>> asks, arks;
    std::vector<CekFrom> ceks;
    std::vector<psp::ChipId> ids;
};

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view blanks = " \t\r\n";
    const auto first = text.find_first_not_of(blanks);
    return first == std::string_view::npos ? std::string_view{} : text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

std::optional<psp::ChipId> id_in(std::string_view text) {
    const auto bytes = try_unhex(trimmed(text));
    if (!bytes || bytes->size() != std::tuple_size_v<psp::ChipId>) return std::nullopt;
    return chip_id_of(trimmed(text), "id");
}

void add_ca(Found& found, psp::CaCertificate certificate, const std::string& file) {
    (certificate.usage == psp::Usage::ark ? found.arks : found.asks).push_back({std::move(certificate), file});
}

/// Recognises a file by its content and size, as the programs that write them have them.
void recognise(Found& found, const Path& path, ByteView bytes) {
    const std::string file = shown(path);
    if (const auto id = id_in(as_text(bytes))) {
        found.ids.push_back(*id);
        return;
    }
    if (const std::string_view is = endorsement::foreign(bytes); !is.empty()) {
        const auto decoded = is == "text" ? try_unbase64(as_text(bytes)) : std::nullopt;
        if (decoded && !decoded->empty() && endorsement::foreign(*decoded).empty()) return recognise(found, path, *decoded);
        throw Error{Fault::malformed, fmt::format("{}: {}, want certificates of a SEV platform", file, is)};
    }
    constexpr std::array ca_sizes{std::size_t{576}, std::size_t{832}, std::size_t{1600}};
    if (std::ranges::find(ca_sizes, bytes.size()) != ca_sizes.end()) return add_ca(found, psp::parse_ca_certificate(bytes, file), file);
    psp::Chain chain = psp::parse_chain(bytes, file);
    if (chain.cek) {
        if (chain.cek->signature_by(psp::Usage::ask))
            found.ceks.push_back({*chain.cek, file, id_in(path.stem().string())});
        else if (!chain.ask)
            throw Error{Fault::malformed,
                        fmt::format("{}: its CEK is signed by no ASK: that is the platform's own export, and not AMD's endorsement", file),
                        "AMD's key server gives the signed CEK by chip id; see sev-relay(1)"};
    } else if (!chain.ask) {
        throw Error{Fault::malformed, fmt::format("{}: no CEK, ASK or ARK in it: nothing that AMD issues", file)};
    }
    if (chain.ask) add_ca(found, *std::move(chain.ask), file);
    if (chain.ark) add_ca(found, *std::move(chain.ark), file);
}

/// Every ASK with the ARK that signed it. One that stays alone, or does not verify, ends the import.
std::vector<Authority> authorities_of(const Found& found, const std::vector<psp::Root>& roots) {
    std::vector<Authority> out;
    std::vector<bool> ark_used(found.arks.size(), false);
    for (const auto& ask : found.asks) {
        std::string refusal = fmt::format("{}: an ASK without its ARK", ask.file);
        bool judged_good = false;
        for (std::size_t i = 0; i < found.arks.size() && !judged_good; ++i) {
            if (found.arks[i].certificate.key_id != ask.certificate.certifying_id) continue;
            const auto judged = endorsement::judge_ca(ask.certificate, found.arks[i].certificate, ask.file, roots, std::nullopt);
            refusal = judged.refusal;
            judged_good = judged.value.has_value();
            if (!judged_good) continue;
            ark_used[i] = true;
            out.push_back(*judged.value);
        }
        if (!judged_good) throw Error{Fault::malformed, refusal, "name ASK and ARK together; a root that is not AMD's must be named with --root"};
    }
    for (std::size_t i = 0; i < found.arks.size(); ++i)
        if (!ark_used[i])
            throw Error{Fault::malformed, fmt::format("{}: an ARK without an ASK that it signed", found.arks[i].file), "name ASK and ARK together"};
    return out;
}

/// The ASK that signed the CEK: among those imported now, else in the store.
Authority authority_of(const CekFrom& from, const std::vector<Authority>& imported, const endorsement::Store& store,
                       const std::vector<psp::Root>& roots) {
    std::string refusal;
    const auto fits = [&](const Authority& authority) {
        const auto judged = endorsement::judge_cek(from.cek, from.file, authority);
        if (!judged && refusal.empty()) refusal = judged.refusal;
        return judged.value.has_value();
    };
    for (const Authority& authority : imported)
        if (fits(authority)) return authority;
    for (const psp::Product product : endorsement::possible_products(from.cek)) {
        const auto stored = store.ca(product, roots);
        if (stored && fits(*stored.value)) return *stored.value;
    }
    if (refusal.empty()) refusal = fmt::format("{}: a CEK, which cannot be verified without its product's ASK and ARK", from.file);
    throw Error{Fault::malformed, refusal, "name AMD's ask_ark_PRODUCT.cert as well"};
}

std::optional<psp::ChipId> id_of(const Found& found, const CekFrom& from, const Arguments& given) {
    std::vector<psp::ChipId> ids = found.ids;
    if (given.has("--id")) ids.push_back(chip_id_of(given.text("--id"), "--id"));
    if (from.id) ids.push_back(*from.id);
    if (ids.empty()) return std::nullopt;
    if (std::ranges::any_of(ids, [&](const psp::ChipId& id) { return id != ids.front(); }))
        throw Error{Fault::usage, fmt::format("{}: belongs to one chip, and more than one id is given", from.file),
                    "import the CEK of each chip by itself"};
    return ids.front();
}

Answer run(const Arguments& given, Console& console) {
    const endorsement::Store store = endorsement_store(given);
    const std::vector<psp::Root> roots = trusted_roots(given);
    Found found;
    for (const std::string& file : given.all("FILE"))
        recognise(found, file, read_file(file, static_cast<std::size_t>(given.argument("FILE").limit_bytes)));
    const bool has_id = !found.ids.empty() || given.has("--id");
    if (found.ceks.empty() && has_id) throw Error{Fault::usage, "a chip id is given, but no CEK that it could be about"};
    if (found.ceks.size() > 1 && has_id)
        throw Error{Fault::usage, fmt::format("{} CEKs and one chip id: which of them is its?", found.ceks.size()),
                    "import the CEK of each chip by itself"};

    // everything is verified before anything is stored
    const std::vector<Authority> authorities = authorities_of(found, roots);
    std::vector<std::pair<const CekFrom*, Authority>> ceks;
    std::vector<std::optional<psp::ChipId>> ids;
    for (const CekFrom& from : found.ceks) {
        ceks.emplace_back(&from, authority_of(from, authorities, store, roots));
        ids.push_back(id_of(found, from, given));
    }
    if (authorities.empty() && ceks.empty()) throw Error{Fault::malformed, "no certificate that AMD issues is among the files"};

    json::Value stored = json::Value::array();
    std::string text;
    const auto done = [&](std::string_view what, const Authority& authority, const Digest& fingerprint, const Path& file) {
        stored.push_back({{"what", what},
                          {"product", psp::name(authority.product())},
                          {"root", authority.root.label},
                          {"fingerprint", hex(fingerprint)},
                          {"file", file.string()}});
        text += fmt::format("{} of {} ({}):\n    {}\n", what == "ca" ? "ASK and ARK" : "CEK", psp::name(authority.product()), authority.root.label,
                            shown(file));
    };
    for (const Authority& authority : authorities) {
        store.put_ca(authority);
        done("ca", authority, authority.ark.fingerprint(), store.ca_path(authority.product()));
    }
    for (std::size_t i = 0; i < ceks.size(); ++i) {
        const psp::SevCertificate& cek = ceks[i].first->cek;
        store.put_cek(cek, ids[i]);
        done("cek", ceks[i].second, cek.fingerprint(), ids[i] ? store.cek_path(*ids[i]) : store.cek_path(cek.fingerprint()));
        if (!ids[i])
            console.warn(
                fmt::format("{}: kept by its key alone, since nothing names its chip; sev-relay looks for a chip's id (--id)", ceks[i].first->file));
    }
    if (console.json()) {
        json::Value result = result_of(given);
        result["stored"] = std::move(stored);
        console.print(result);
    } else {
        console.print(fit(text));
    }
    return Answer::yes;
}

} // namespace

const Command cert_import_command{
    .name = "cert import",
    .summary = "bring AMD's certificates into the cache, for hosts without a network",
    .text = "Reads certificates that were fetched elsewhere, verifies them up to AMD's roots (or one that --root names), and stores them where "
            "sev-relay would have. "
            "Files are recognised by content and size: AMD's ask_ark files, single ASK, ARK and signed CEK certificates, the chains that sevctl "
            "export --full and sev-tool "
            "write, all of them binary or base64, and a text of 128 hex digits that names the chip (sev-tool's getid_s0_out.txt). Nothing is stored "
            "unless all of it is good.\n\n"
            "No certificate names a chip id; say it with --id, a file of it, or by calling the CEK's file after it.",
    .example = "sevctl cert import ask_ark_naples.cert cek.cert getid_s0_out.txt",
    .arguments = arguments,
    .run = run,
};

} // namespace sev::cli
