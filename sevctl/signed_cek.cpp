// SPDX-License-Identifier: Apache-2.0
#include "sevctl/signed_cek.hpp"

#include <cstdlib>

#include <unistd.h>

#include "attest/endorsement/store.hpp"

namespace sev::cli {
namespace {

std::string environment(const char* name) {
    const char* const value = std::getenv(name);
    return value ? value : "";
}

/// Same key, signed or not.
bool same_cek(const psp::SevCertificate& a, const psp::SevCertificate& b) { return a.fingerprint() == b.fingerprint(); }

std::optional<SignedCek> from_store(const Path& directory, const psp::SevCertificate& cek, const std::vector<psp::Root>& roots, std::string& reason) {
    const endorsement::Store store{directory};
    const auto stored = store.cek(cek.fingerprint(), roots);
    if (!stored) {
        reason = stored.refusal.empty() ? fmt::format("{}: holds none for this chip", shown(directory)) : stored.refusal;
        return std::nullopt;
    }
    return SignedCek{.cek = stored.value->cek,
                     .ask = stored.value->authority.ask,
                     .ark = stored.value->authority.ark,
                     .source = store.cek_path(cek.fingerprint()).string()};
}

std::optional<SignedCek> from_cached_chain(const psp::SevCertificate& cek, std::string& reason) {
    for (const Path& file : cached_chain_files()) {
        std::error_code ignored;
        if (!std::filesystem::exists(file, ignored)) continue;
        constexpr std::size_t limit_bytes = 16 << 10;
        const psp::Chain chain = psp::parse_chain(read_file(file, limit_bytes), shown(file));
        if (!chain.cek || !same_cek(*chain.cek, cek) || !chain.cek->signature_by(psp::Usage::ask)) {
            reason += fmt::format("; {}: is of another chip, or unsigned", shown(file));
            return std::nullopt; // as other tools: the first there is counts
        }
        return SignedCek{.cek = *chain.cek, .ask = chain.ask, .ark = chain.ark, .source = file.string()};
    }
    return std::nullopt;
}

} // namespace

std::vector<Path> cached_chain_files() {
    std::vector<Path> out;
    if (const std::string named = environment("SEV_CHAIN"); !named.empty()) out.emplace_back(named);
    const std::string cache = environment("XDG_CACHE_HOME"), home = environment("HOME");
    if (cache.starts_with('/'))
        out.push_back(Path{cache} / "amd-sev/chain");
    else if (!home.empty())
        out.push_back(Path{home} / ".cache/amd-sev/chain");
    out.emplace_back("/var/cache/amd-sev/chain");
    return out;
}

NamedEndorsement named_endorsement(const Arguments& given) {
    NamedEndorsement out;
    if (given.has(cek_option.name)) {
        const std::string file = shown(given.text(cek_option.name));
        out.cek = psp::parse_sev_certificate(input_bytes(given, cek_option.name), file);
        if (out.cek->usage != psp::Usage::cek)
            throw Error{Fault::malformed, fmt::format("{}: 8h PUBKEY_USAGE is {}, want CEK", file, psp::name(out.cek->usage))};
        if (!out.cek->signature_by(psp::Usage::ask))
            throw Error{Fault::malformed, fmt::format("{}: is not signed by an ASK, as AMD's server gives it", file)};
    }
    if (given.has(ca_option.name)) {
        psp::Chain ca;
        add_ca(ca, given, ca_option.name);
        out.ask = ca.ask;
        out.ark = ca.ark;
    }
    return out;
}

SignedCekSearch find_signed_cek(const Arguments& given, const NamedEndorsement& named, const psp::SevCertificate& cek,
                                const std::vector<psp::Root>& roots) {
    SignedCekSearch out;
    if (named.cek) {
        const std::string& file = given.text(cek_option.name);
        if (!same_cek(*named.cek, cek))
            throw Error{Fault::malformed,
                        fmt::format("{}: is the CEK {}… of another chip, want {}…", shown(file), hex(named.cek->fingerprint()).substr(0, 16),
                                    hex(cek.fingerprint()).substr(0, 16)),
                        "fetch it by the id that 'sevctl show identifier' prints"};
        out.found = SignedCek{.cek = *named.cek, .ask = {}, .ark = {}, .source = file};
    } else {
        const auto cache = given.text_if(cache_option.name);
        const Path directory =
            cache ? Path{*cache} : endorsement::default_directory(::geteuid() == 0, environment("XDG_CACHE_HOME"), environment("HOME"));
        out.found = from_store(directory, cek, roots, out.reason);
        if (!out.found) out.found = from_cached_chain(cek, out.reason);
    }
    if (out.found && named.ask) {
        out.found->ask = named.ask;
        out.found->ark = named.ark;
    }
    return out;
}

std::string how_to_get_cek(const std::vector<psp::ChipId>& ids, const psp::SevCertificate& cek) {
    return fmt::format("on a machine with a network: sev-relay fetch cek --id {} --key {}; or name the file: --cek FILE",
                       ids.empty() ? "ID" : hex(ids.front()), hex(cek.fingerprint()));
}

} // namespace sev::cli
