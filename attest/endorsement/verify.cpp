// SPDX-License-Identifier: Apache-2.0
#include "attest/endorsement/verify.hpp"

#include <algorithm>
#include <array>
#include <initializer_list>

#include <fmt/format.h>

namespace sev::endorsement {
namespace {

/// What failed among the checks whose names begin so, in one line; empty when all passed. A prefix under which nothing was checked is a failure.
std::string failures(const std::vector<psp::Check>& checks, std::initializer_list<std::string_view> prefixes) {
    std::string out;
    for (const std::string_view prefix : prefixes) {
        std::size_t made = 0;
        for (const psp::Check& check : checks) {
            if (!check.check.starts_with(prefix)) continue;
            ++made;
            if (!check.passed) out += fmt::format("{}{}: {}", out.empty() ? "" : "; ", check.check, check.detail);
        }
        require(made > 0, "verify_chain makes every check it promises");
    }
    return out;
}

/// A parser's refusal becomes an answer here, and only here: bytes of a server or a cache may be anything.
template <class Parse>
auto answer_of(Parse&& parse) -> Judged<decltype(parse())> {
    try {
        return {.value = parse(), .refusal = {}};
    } catch (const Error& error) {
        if (error.fault() != Fault::malformed) throw;
        return {.value = std::nullopt, .refusal = error.what()};
    }
}

char lower(std::uint8_t c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c); }

std::string not_a_certificate(ByteView bytes, std::string_view what, std::string_view want) {
    const std::string_view is = foreign(bytes);
    return is.empty() ? std::string{} : fmt::format("{}: {} ({} bytes), want {}", what, is, bytes.size(), want);
}

} // namespace

std::string_view foreign(ByteView bytes) {
    if (bytes.empty()) return "empty";
    const auto not_blank = std::ranges::find_if(bytes, [](std::uint8_t c) { return c != ' ' && c != '\t' && c != '\r' && c != '\n'; });
    std::string begin;
    for (auto at = not_blank; at != bytes.end() && begin.size() < 16; ++at) begin += lower(*at);
    if (begin.starts_with("<!doctype") || begin.starts_with("<html") || begin.starts_with("<head")) return "an HTML page";
    if (begin.starts_with('<')) return "XML";
    if (begin.starts_with("-----begin ")) return "PEM";
    if (begin.starts_with('{') || begin.starts_with('[')) return "JSON";
    constexpr std::array<std::uint8_t, 2> gzip{0x1F, 0x8B};
    if (bytes.size() > 2 && std::ranges::equal(bytes.first(2), gzip)) return "a gzip file";
    const bool text = std::ranges::all_of(bytes.first(std::min<std::size_t>(bytes.size(), 64)),
                                          [](std::uint8_t c) { return (c >= ' ' && c <= '~') || (c >= '\t' && c <= '\r'); });
    return text ? "text" : "";
}

Bytes Authority::serialize() const {
    Bytes out = ask.serialize();
    const Bytes second = ark.serialize();
    out.insert(out.end(), second.begin(), second.end());
    return out;
}

Judged<Authority> judge_ca(const psp::CaCertificate& ask, const psp::CaCertificate& ark, std::string_view what, const std::vector<psp::Root>& roots,
                           std::optional<psp::Product> product) {
    psp::Chain chain;
    chain.ask = ask;
    chain.ark = ark;
    const psp::ChainVerdict verdict = psp::verify_chain(chain, roots);
    const std::string problem = failures(verdict.checks, {"chain.roots", "chain.ark.", "chain.ask."});
    if (!problem.empty()) return {.value = std::nullopt, .refusal = fmt::format("{}: {}", what, problem)};
    require(verdict.root.has_value(), "an ARK that passes every check is a root of the set");
    if (product && verdict.root->product != *product) {
        return {.value = std::nullopt,
                .refusal = fmt::format("{}: ASK and ARK of {} ({}), want those of {}", what, psp::name(verdict.root->product), verdict.root->label,
                                       psp::name(*product))};
    }
    return {.value = Authority{.root = *verdict.root, .ask = ask, .ark = ark}, .refusal = {}};
}

Judged<Authority> judge_ca(ByteView bytes, std::string_view what, const std::vector<psp::Root>& roots, std::optional<psp::Product> product) {
    if (std::string problem = not_a_certificate(bytes, what, "ASK and ARK (1408, 1664 or 3200 bytes)"); !problem.empty())
        return {.value = std::nullopt, .refusal = std::move(problem)};
    if (bytes.size() > longest_ca_bytes)
        return {.value = std::nullopt, .refusal = fmt::format("{}: {} bytes, want ASK and ARK (1408, 1664 or 3200 bytes)", what, bytes.size())};
    const auto chain = answer_of([&] { return psp::parse_chain(bytes, what); });
    if (!chain) return {.value = std::nullopt, .refusal = chain.refusal};
    if (!chain.value->ask || !chain.value->ark)
        return {.value = std::nullopt, .refusal = fmt::format("{}: {} bytes, want ASK and ARK (1408, 1664 or 3200 bytes)", what, bytes.size())};
    return judge_ca(*chain.value->ask, *chain.value->ark, what, roots, product);
}

Judged<psp::SevCertificate> parse_cek(ByteView bytes, std::string_view what) {
    if (std::string problem = not_a_certificate(bytes, what, "a CEK certificate (2084 bytes)"); !problem.empty())
        return {.value = std::nullopt, .refusal = std::move(problem)};
    auto cek = answer_of([&] { return psp::parse_sev_certificate(bytes, what); });
    if (!cek) return cek;
    if (cek.value->usage != psp::Usage::cek) {
        return {.value = std::nullopt,
                .refusal = fmt::format("{}: 008h PUBKEY_USAGE is 0x{:x} ({}), want 0x1004 (CEK)", what, psp::raw(cek.value->usage),
                                       psp::name(cek.value->usage))};
    }
    if (!cek.value->signature_by(psp::Usage::ask))
        return {.value = std::nullopt, .refusal = fmt::format("{}: a CEK that no ASK has signed, as a platform exports it", what)};
    return cek;
}

Judged<psp::SevCertificate> judge_cek(const psp::SevCertificate& cek, std::string_view what, const Authority& authority) {
    psp::Chain chain;
    chain.cek = cek;
    chain.ask = authority.ask;
    chain.ark = authority.ark;
    const std::string problem =
        failures(psp::verify_chain(chain, {authority.root}).checks, {"chain.roots", "chain.ark.", "chain.ask.", "chain.cek."});
    if (!problem.empty())
        return {.value = std::nullopt,
                .refusal = fmt::format("{}: not endorsed by the ASK of {}: {}", what, psp::name(authority.product()), problem)};
    return {.value = cek, .refusal = {}};
}

} // namespace sev::endorsement
