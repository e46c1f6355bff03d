// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <chrono>

#include <fmt/format.h>

#include "sevctl/certificate_cache.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"

namespace sev::cli {
namespace {

using endorsement::Time;

constexpr std::size_t name_limit = 4096;
constexpr std::array products{psp::Product::naples, psp::Product::rome, psp::Product::milan, psp::Product::genoa, psp::Product::turin};
constexpr std::array arguments{
    Argument{.name = "--id", .metavar = "HEX", .help = "Only this chip: 128 hex digits."},
    root_option,
    endorsement_cache_option,
    json_option,
};

/// One thing in the cache: certificates that verify or do not, or a note that there are none.
struct Entry {
    std::string what, name; // "ca", "naples"; "cek", a chip id; "key", a fingerprint
    std::string state;      // "good", "bad", "missing"
    std::string product, root, fingerprint, detail;
};

Entry of_note(std::string what, std::string name, const endorsement::MissingNote& note) {
    return {std::move(what),
            std::move(name),
            "missing",
            {},
            {},
            {},
            fmt::format("{} ({}), asked again after {}", printable(note.reason), printable(note.server), endorsement::text(note.ask_again))};
}
Entry of_cek(std::string what, std::string name, const endorsement::Judged<endorsement::StoredCek>& judged) {
    if (!judged) return {std::move(what), std::move(name), "bad", {}, {}, {}, judged.refusal};
    const auto& authority = judged.value->authority;
    return {std::move(what),
            std::move(name),
            "good",
            std::string{psp::name(authority.product())},
            authority.root.label,
            hex(judged.value->cek.fingerprint()),
            {}};
}

void add_chip(std::vector<Entry>& out, const endorsement::Store& store, const psp::ChipId& id, const std::vector<psp::Root>& roots, Time now) {
    const auto judged = store.cek(id, roots);
    if (judged || !judged.refusal.empty()) out.push_back(of_cek("cek", hex(id), judged));
    else if (const auto note = store.missing_cek(id, now)) out.push_back(of_note("cek", hex(id), *note));
}

/// Everything in the store, in the order: products, chips, CEKs that no chip id leads to.
std::vector<Entry> everything(const endorsement::Store& store, const std::vector<psp::Root>& roots, Time now, bool& cut_off) {
    std::vector<Entry> out;
    for (const psp::Product product : products) {
        const std::string name{psp::name(product)};
        const auto judged = store.ca(product, roots);
        if (judged) out.push_back({"ca", name, "good", name, judged.value->root.label, hex(judged.value->ark.fingerprint()), {}});
        else if (!judged.refusal.empty()) out.push_back({"ca", name, "bad", {}, {}, {}, judged.refusal});
        else if (const auto note = store.missing_ca(product, now)) out.push_back(of_note("ca", name, *note));
    }
    const auto names = store.names("cek", name_limit + 1);
    cut_off = names.size() > name_limit;
    std::vector<std::string> keys;
    for (const std::string& name : names) {
        const std::string stem = Path{name}.stem().string();
        const auto bytes = try_unhex(stem.starts_with("key-") ? stem.substr(4) : stem);
        if (!bytes) continue;
        if (stem.starts_with("key-") && bytes->size() == 32) keys.push_back(stem.substr(4));
        if (!stem.starts_with("key-") && bytes->size() == 64) {
            const bool again = !out.empty() && out.back().name == stem; // ID.cert and ID.missing
            if (!again) add_chip(out, store, unhex<64>(stem), roots, now);
        }
    }
    for (const std::string& key : keys) {
        const bool named = std::ranges::any_of(out, [&](const Entry& entry) { return entry.what == "cek" && entry.fingerprint == key; });
        if (!named) out.push_back(of_cek("key", key, store.cek(unhex<32>(key), roots)));
    }
    return out;
}

std::string line_of(const Entry& entry) {
    const std::string name = entry.name.size() > 20 ? entry.name.substr(0, 16) + "…" : entry.name;
    if (entry.state == "good")
        return fmt::format("{:<4} {:<17} good     {}, {}, key {}…\n", entry.what, name, entry.product, entry.root, entry.fingerprint.substr(0, 16));
    return fmt::format("{:<4} {:<17} {:<8} {}\n", entry.what, name, entry.state, entry.detail);
}

Answer run(const Arguments& given, Console& console) {
    const endorsement::Store store = endorsement_store(given);
    const std::vector<psp::Root> roots = trusted_roots(given);
    const Time now = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
    std::vector<Entry> entries;
    bool cut_off = false;
    if (given.has("--id"))
        add_chip(entries, store, chip_id_of(given.text("--id"), "--id"), roots, now);
    else
        entries = everything(store, roots, now, cut_off);
    if (cut_off) console.warn(fmt::format("{}: more than {} files, and only so many are shown", shown(store.directory()), name_limit));

    if (console.json()) {
        json::Value result = result_of(given);
        result["cache"] = store.directory().string();
        json::Value& list = result["entries"] = json::Value::array();
        for (const Entry& entry : entries) {
            json::Value one{{"what", entry.what}, {"name", entry.name}, {"state", entry.state}};
            if (entry.state == "good") {
                one["product"] = entry.product;
                one["root"] = entry.root;
                one["fingerprint"] = entry.fingerprint;
            } else {
                one["detail"] = entry.detail;
            }
            list.push_back(std::move(one));
        }
        console.print(result);
    } else {
        std::string text;
        for (const Entry& entry : entries) text += line_of(entry);
        if (entries.empty()) text = fmt::format("{}: {}\n", shown(store.directory()), given.has("--id") ? "nothing of this chip" : "nothing in it");
        console.print(text);
    }
    const bool all_good = !entries.empty() && std::ranges::all_of(entries, [](const Entry& entry) { return entry.state == "good"; });
    return all_good ? Answer::yes : Answer::no;
}

} // namespace

const Command cert_show_command{
    .name = "cert show",
    .summary = "show which of AMD's certificates are in the cache",
    .text = "Lists what sev-relay fetched and sevctl cert import brought in: ASK and ARK of each product, and CEKs by chip id, or by key where no id "
            "is known. Each is verified "
            "now: \"good\" names the root it ends at, \"bad\" why it is of no use, \"missing\" until when a server's word is taken that there is "
            "none.\n\n"
            "Exit status 1: something is bad or missing, or nothing is there.",
    .example = "sevctl cert show",
    .arguments = arguments,
    .run = run,
};

} // namespace sev::cli
