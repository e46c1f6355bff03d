// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "attest/owner/store.hpp"
#include "attest/owner_policy.hpp"
#include "attest/reference.hpp"

namespace sev::attest::owner {

/// A policy as it stood at one moment, with its references computed. `digest` names it: SHA-256 over the policy's text and the content of every file
/// its references are made from. A session remembers it, and is judged by exactly that.
struct PolicySnapshot {
    std::string name;
    OwnerPolicy policy;
    std::vector<Reference> references;
    Digest digest{};
};

/// Tells a file from what it was before without reading it.
struct FileIdentity {
    std::uint64_t device = 0, inode = 0, size_bytes = 0;
    std::int64_t modified_ns = 0, changed_ns = 0; // mtime, and ctime, which nobody can set back
    friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};
/// Throws Error{Fault::system} for what is no regular file.
FileIdentity file_identity(const Path& path);

/// Where policies lie: a folder of NAME.json, or the store.
class PolicyShelf {
public:
    virtual ~PolicyShelf() = default;
    /// nullopt when there is none of that name.
    virtual std::optional<std::string> text(const std::string& name) = 0;
    virtual std::vector<std::string> names() = 0;
    /// The folder that paths in a policy are relative to.
    virtual Path base() const = 0;
};
std::unique_ptr<PolicyShelf> policy_folder(Path folder);
/// Policies that lie in the store. One that `keys` did not seal is refused: a store may be written to by others than the owner.
std::unique_ptr<PolicyShelf> policy_store(Store& store, const SealKeys& keys, Path base);

/// The owner's policies, each computed once and kept until its text or one of its files changes, so that judging does not hash gigabytes. A file is
/// looked at (not read) on every use; one that changed in the last moments before it was hashed is hashed again, because a further change might not
/// show. Thread-safe.
class Policies {
public:
    explicit Policies(std::unique_ptr<PolicyShelf> shelf) : shelf_{std::move(shelf)} {}
    /// Throws Error{Fault::usage} when there is no such policy, Error{Fault::malformed} or {Fault::system} when it or one of its files cannot be
    /// used.
    std::shared_ptr<const PolicySnapshot> get(const std::string& name);
    std::vector<std::string> names() { return shelf_->names(); }
    PolicyShelf& shelf() noexcept { return *shelf_; }
    /// How many files were hashed so far.
    std::uint64_t files_hashed() const;

private:
    struct KnownFile {
        FileIdentity identity;
        Digest sha256{};
        bool settled = false; // had not changed for a while when it was hashed
    };
    struct Entry {
        std::mutex mutex;
        Digest text_sha256{};
        std::shared_ptr<const PolicySnapshot> snapshot;
        std::map<Path, KnownFile> files;
    };
    std::shared_ptr<const PolicySnapshot> made(Entry& entry, const std::string& name, const std::string& text);
    bool unchanged(const Entry& entry) const;
    KnownFile hashed(const Path& path);
    std::unique_ptr<PolicyShelf> shelf_;
    mutable std::mutex mutex_;
    std::map<std::string, std::shared_ptr<Entry>> entries_;
    std::uint64_t files_hashed_ = 0;
};

} // namespace sev::attest::owner
