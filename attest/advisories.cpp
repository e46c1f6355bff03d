// SPDX-License-Identifier: Apache-2.0
#include "attest/advisories.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "attest/advisories_data.hpp"
#include "attest/guest_policy_bits.hpp"
#include "base/error.hpp"

namespace sev::attest {
namespace {

constexpr std::size_t list_limit = 200, text_limit_bytes = 4096;

std::string element(const json::Value& array, std::size_t index, const std::string& what) {
    if (!array[index].is_string()) throw Error{Fault::malformed, fmt::format("{}[{}]: is no string, want a string", what, index)};
    return array[index].get<std::string>();
}

std::vector<psp::Product> products(json::Object& object) {
    const json::Value& array = object.array("products", 32);
    if (array.empty()) object.refuse("products", "is empty, want at least one, or no such key for all");
    std::vector<psp::Product> out;
    for (std::size_t i = 0; i < array.size(); ++i) {
        const std::string text = element(array, i, object.what() + ": products");
        const auto product = psp::product_named(text);
        if (!product) object.refuse("products", fmt::format("has \"{}\", want naples, rome, milan, genoa or turin", printable(text)));
        out.push_back(*product);
    }
    return out;
}

std::uint32_t bits(json::Object& object, std::string_view key) {
    const json::Value& array = object.array(key, 32);
    if (array.empty()) object.refuse(key, "is empty, want at least one bit");
    std::uint32_t out = 0;
    for (std::size_t i = 0; i < array.size(); ++i) {
        const std::string text = element(array, i, fmt::format("{}: {}", object.what(), key));
        const auto bit = guest_policy_bit(text);
        if (!bit) object.refuse(key, fmt::format("has \"{}\", want NODBG, NOKS, ES, NOSEND, DOMAIN or SEV", printable(text)));
        out |= *bit;
    }
    return out;
}

AdvisoryPredicate predicate(json::Object object) {
    AdvisoryPredicate out;
    if (object.has("products")) out.products = products(object);
    if (object.has("build_below")) out.build_below = psp::Build::parse(object.string("build_below", 16), object.what() + ": build_below");
    if (object.has("policy_has")) out.policy_has = bits(object, "policy_has");
    if (object.has("policy_lacks")) out.policy_lacks = bits(object, "policy_lacks");
    if (object.has("emulated")) out.emulated = object.boolean("emulated");
    object.done();
    return out;
}

json::Value predicate_to_json(const AdvisoryPredicate& predicate) {
    json::Value out = json::Value::object();
    if (predicate.products) {
        json::Value& list = out["products"] = json::Value::array();
        for (const psp::Product product : *predicate.products) list.push_back(psp::name(product));
    }
    if (predicate.build_below) out["build_below"] = predicate.build_below->text();
    if (predicate.policy_has) out["policy_has"] = guest_policy_bit_names(*predicate.policy_has);
    if (predicate.policy_lacks) out["policy_lacks"] = guest_policy_bit_names(*predicate.policy_lacks);
    if (predicate.emulated) out["emulated"] = *predicate.emulated;
    return out;
}

Advisory advisory(const json::Value& value, const std::string& what) {
    json::Object object{value, what};
    Advisory out;
    out.id = checked_name(object.string("id"), what + ": id");
    out.title = checked_text(object, "title", text_limit_bytes);
    const std::string severity = object.string("severity", 16);
    const auto known = severity_named(severity);
    if (!known) object.refuse("severity", fmt::format("is \"{}\", want fail or warn", printable(severity)));
    out.severity = *known;
    out.applies = predicate(object.object("applies"));
    out.text = checked_text(object, "text", text_limit_bytes);
    out.remedy = checked_text(object, "remedy", text_limit_bytes);
    out.source = checked_text(object, "source", text_limit_bytes);
    object.done();
    return out;
}

} // namespace

Advisories Advisories::from_json(const json::Value& value, std::string_view what) {
    json::Object object{value, std::string{what}};
    expect_format(object, format, version);
    Advisories out;
    out.revised = checked_name(object.string("revised", 32), object.what() + ": revised");
    const json::Value& array = object.array("advisories", list_limit);
    if (array.empty()) object.refuse("advisories", "is empty, want at least one");
    std::set<std::string> ids;
    for (std::size_t i = 0; i < array.size(); ++i) {
        out.list.push_back(advisory(array[i], fmt::format("{}: advisories[{}]", what, i)));
        if (!ids.insert(out.list.back().id).second) object.refuse("advisories", fmt::format("has {} twice", out.list.back().id));
    }
    object.done();
    return out;
}

json::Value Advisories::to_json() const {
    json::Value out = with_format(format, version);
    out["revised"] = revised;
    json::Value& array = out["advisories"] = json::Value::array();
    for (const Advisory& one : list)
        array.push_back({{"id", one.id},
                         {"title", one.title},
                         {"severity", name(one.severity)},
                         {"applies", predicate_to_json(one.applies)},
                         {"text", one.text},
                         {"remedy", one.remedy},
                         {"source", one.source}});
    return out;
}

const Advisory* Advisories::find(std::string_view id) const noexcept {
    const auto found = std::ranges::find(list, id, &Advisory::id);
    return found == list.end() ? nullptr : &*found;
}

const Advisories& builtin_advisories() {
    static const Advisories list = read_message<Advisories>(builtin_advisories_json, "built-in advisories");
    return list;
}

bool applies(const Advisory& advisory, const AdvisorySubject& subject) {
    const AdvisoryPredicate& predicate = advisory.applies;
    // a product nobody knows may be an affected one
    if (predicate.products && subject.product && std::ranges::find(*predicate.products, *subject.product) == predicate.products->end()) return false;
    if (predicate.build_below && subject.build >= *predicate.build_below) return false;
    if (predicate.policy_has && !subject.policy.has(*predicate.policy_has)) return false;
    if (predicate.policy_lacks && (subject.policy.value & *predicate.policy_lacks) != 0) return false;
    return !predicate.emulated || *predicate.emulated == subject.emulated;
}

std::vector<AdvisoryFinding> evaluate(const Advisories& advisories, const AdvisorySubject& subject, const std::vector<std::string>& accepted) {
    std::vector<AdvisoryFinding> out;
    for (const Advisory& advisory : advisories.list)
        if (applies(advisory, subject))
            out.push_back({.id = advisory.id,
                           .severity = advisory.severity,
                           .accepted = std::ranges::find(accepted, advisory.id) != accepted.end(),
                           .text = advisory.text,
                           .source = advisory.source});
    return out;
}

} // namespace sev::attest
