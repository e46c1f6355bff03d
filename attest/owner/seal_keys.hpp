// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/aead.hpp"
#include "base/file.hpp"

namespace sev::attest::owner {

/// A secret as it lies in the store.
struct Sealed {
    std::string key_id;
    Bytes box; // base/aead.hpp
    friend bool operator==(const Sealed&, const Sealed&) = default;
};

/// The keys under which TEK, TIK, stored secrets and policies are encrypted at rest. A file of lines: "xen-sev-seal-keys 1", then "ID KEY" with 16
/// and 64 hex digits, the one that seals first; the others open what was sealed with them. The file must be mode 0600 or stricter, and belong to
/// whoever reads it or to root. `seal` and `open` are thread-safe, also towards each other.
class SealKeys {
public:
    static constexpr std::size_t limit_bytes = 64 * 1024;
    static constexpr std::size_t key_limit = 256;

    /// Draws one new key.
    static SealKeys fresh();
    /// Throws Error{Fault::system} for a file others can read, Error{Fault::malformed} with the line for one that is no key file.
    static SealKeys load(const Path& path);
    static SealKeys parse(ByteView text, std::string_view what);
    SealKeys(SealKeys&&) noexcept = default;
    SealKeys& operator=(SealKeys&&) noexcept = default;

    /// Adds a new key in front of the others: it seals from now on.
    void rotate();
    /// Adds a new key behind the first: it opens, and does not seal yet. Returns its id.
    std::string prepare();
    /// Seals with this key of the file from now on. Throws Error{Fault::usage} when the file has no such key.
    void use(const std::string& id);
    /// Drops all but the first. For when nothing in the store needs them any more.
    void retire();
    /// Text of the file.
    SecretBytes serialize() const;
    std::string current() const;
    bool has(std::string_view id) const;
    std::size_t size() const;

    /// `context` names what is sealed and where it belongs: a box moved to another row does not open.
    Sealed seal(std::string_view context, ByteView plain) const;
    /// A key that is not known yet is looked for in the file they were loaded from, read once more: somebody rotated while we ran. What the file has
    /// now is taken over then, beside what was known. Throws Error{Fault::system} when the key is not in the file, or the box does not open under it.
    SecretBytes open(std::string_view context, const Sealed& sealed) const;

private:
    struct Ring {
        std::string current;
        std::map<std::string, AeadKey> keys;
    };
    SealKeys() = default;
    std::string add();
    void read_again() const;
    Path path_; // empty when they come from no file
    std::unique_ptr<std::mutex> mutex_ = std::make_unique<std::mutex>();
    std::unique_ptr<Ring> ring_ = std::make_unique<Ring>(); // guarded by mutex_
};

/// Refuses a file that others than its owner may read, or that belongs to neither this user nor root. Throws Error{Fault::system} with the remedy.
void expect_private(const Path& path);

} // namespace sev::attest::owner
