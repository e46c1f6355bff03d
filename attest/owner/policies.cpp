// SPDX-License-Identifier: Apache-2.0
#include "attest/owner/policies.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <chrono>

#include <fmt/format.h>

#include "attest/protocol/exchange.hpp"
#include "base/error.hpp"

namespace sev::attest::owner {
namespace {

constexpr std::size_t policy_limit = 1024; // kept at a time
constexpr int attempts = 3;
constexpr std::int64_t settled_after_ns = 2'000'000'000; // coarser than any file system's clock

class Folder final : public PolicyShelf {
public:
    explicit Folder(Path folder) : folder_{std::move(folder)} {}
    std::optional<std::string> text(const std::string& name) override {
        const Path path = folder_ / (name + ".json");
        std::error_code ignored;
        if (!std::filesystem::exists(path, ignored)) return std::nullopt;
        return read_text(path, OwnerPolicy::limit_bytes);
    }
    std::vector<std::string> names() override {
        std::vector<std::string> out;
        std::error_code error;
        for (const auto& entry : std::filesystem::directory_iterator{folder_, error}) {
            const std::string stem = entry.path().stem().string();
            if (entry.path().extension() != ".json" || stem.starts_with('.')) continue;
            try {
                out.push_back(checked_policy_name(stem, "policy"));
            } catch (const Error&) {
                continue; // a file that no request can name
            }
        }
        if (error) throw Error{Fault::system, fmt::format("policies {}: {}", folder_.string(), error.message())};
        std::ranges::sort(out);
        return out;
    }
    Path base() const override { return folder_; }

private:
    Path folder_;
};

class Stored final : public PolicyShelf {
public:
    Stored(Store& store, const SealKeys& keys, Path base) : store_{store}, keys_{keys}, base_{std::move(base)} {}
    std::optional<std::string> text(const std::string& name) override {
        const auto found = store_.document("policy", name);
        if (!found) return std::nullopt;
        return std::string{as_text(open_document(keys_, *found).reveal())};
    }
    std::vector<std::string> names() override {
        std::vector<std::string> out;
        for (Document& document : store_.documents("policy")) out.push_back(std::move(document.name));
        return out;
    }
    Path base() const override { return base_; }

private:
    Store& store_;
    const SealKeys& keys_;
    Path base_;
};

std::int64_t nanoseconds(const timespec& time) { return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; }

std::int64_t now_ns() { return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch()).count(); }

/// Lengths stand before variable parts, so that no two policies give one text.
Digest snapshot_digest(const Digest& text, const std::vector<std::pair<Path, Digest>>& files) {
    Sha256 hash;
    hash.update(as_bytes("xen-sev policy snapshot 1\n")).update(text);
    for (const auto& [path, digest] : files)
        hash.update(as_bytes(fmt::format("\n{}:", path.string().size()))).update(as_bytes(path.string())).update(digest);
    return hash.finish();
}

} // namespace

FileIdentity file_identity(const Path& path) {
    struct stat status {};
    if (stat(path.c_str(), &status) != 0)
        throw Error{Fault::system, fmt::format("{}: {}", path.string(), std::error_code{errno, std::generic_category()}.message())};
    if (!S_ISREG(status.st_mode)) throw Error{Fault::system, path.string() + ": is no regular file"};
    return {.device = status.st_dev,
            .inode = status.st_ino,
            .size_bytes = static_cast<std::uint64_t>(status.st_size),
            .modified_ns = nanoseconds(status.st_mtim),
            .changed_ns = nanoseconds(status.st_ctim)};
}

std::unique_ptr<PolicyShelf> policy_folder(Path folder) { return std::make_unique<Folder>(std::move(folder)); }
std::unique_ptr<PolicyShelf> policy_store(Store& store, const SealKeys& keys, Path base) {
    return std::make_unique<Stored>(store, keys, std::move(base));
}

std::shared_ptr<const PolicySnapshot> Policies::get(const std::string& name) {
    checked_policy_name(name, "policy");
    const auto text = shelf_->text(name);
    if (!text) throw Error{Fault::usage, fmt::format("there is no policy named \"{}\"", name)};
    std::shared_ptr<Entry> entry;
    {
        const std::lock_guard lock{mutex_};
        if (entries_.size() >= policy_limit && !entries_.contains(name)) entries_.clear();
        auto& slot = entries_[name];
        if (!slot) slot = std::make_shared<Entry>();
        entry = slot;
    }
    // whoever wants the same policy waits for the one who computes it
    const std::lock_guard lock{entry->mutex};
    if (entry->snapshot && entry->text_sha256 == sha256(as_bytes(*text)) && unchanged(*entry)) return entry->snapshot;
    return within(fmt::format("policy {}", name), [&] { return made(*entry, name, *text); });
}

bool Policies::unchanged(const Entry& entry) const {
    return std::ranges::all_of(entry.files,
                               [](const auto& known) { return known.second.settled && file_identity(known.first) == known.second.identity; });
}

Policies::KnownFile Policies::hashed(const Path& path) {
    for (int i = 0; i < attempts; ++i) {
        const FileIdentity before = file_identity(path);
        const bool settled = now_ns() - std::max(before.modified_ns, before.changed_ns) > settled_after_ns;
        const Digest digest = digest_file(path).sha256;
        {
            const std::lock_guard lock{mutex_};
            ++files_hashed_;
        }
        if (file_identity(path) == before) return {.identity = before, .sha256 = digest, .settled = settled};
    }
    throw Error{Fault::system, fmt::format("{}: changes while it is read", path.string())};
}

std::shared_ptr<const PolicySnapshot> Policies::made(Entry& entry, const std::string& name, const std::string& text) {
    for (int i = 0; i < attempts; ++i) {
        auto out = std::make_shared<PolicySnapshot>();
        out->name = name;
        out->policy = OwnerPolicy::parse(text, name + ".json", shelf_->base());
        std::map<Path, KnownFile> files;
        std::vector<std::pair<Path, Digest>> order;
        for (const ReferenceRule& rule : out->policy.references)
            for (const Path& path : files_of(rule, out->policy.base)) {
                const auto known = entry.files.find(path);
                const bool as_before = known != entry.files.end() && known->second.settled && known->second.identity == file_identity(path);
                if (!files.contains(path)) files.emplace(path, as_before ? known->second : hashed(path));
                // relative to the policy: instances may keep the same policies in different places
                order.emplace_back(path.lexically_proximate(out->policy.base), files.at(path).sha256);
            }
        out->digest = snapshot_digest(sha256(as_bytes(text)), order);
        // the same bytes give the same references: what is only touched is not computed again
        out->references = entry.snapshot && entry.snapshot->digest == out->digest ? entry.snapshot->references : resolve_references(out->policy);
        const bool steady = std::ranges::all_of(files, [](const auto& known) { return file_identity(known.first) == known.second.identity; });
        if (!steady) continue; // a file changed between its hash and its use
        entry.files = std::move(files);
        entry.text_sha256 = sha256(as_bytes(text));
        entry.snapshot = std::move(out);
        return entry.snapshot;
    }
    throw Error{Fault::system, "its files change while they are read"};
}

std::uint64_t Policies::files_hashed() const {
    const std::lock_guard lock{mutex_};
    return files_hashed_;
}

} // namespace sev::attest::owner
