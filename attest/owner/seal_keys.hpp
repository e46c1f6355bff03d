// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <map>
#include <optional>
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

/// The keys under which TEK, TIK and stored secrets are encrypted at rest. A file of lines: "xen-sev-seal-keys 1", then "ID KEY" with 16 and 64 hex
/// digits, the one that seals first; the others open what was sealed before a rotation. The file must be mode 0600 or stricter, and belong to whoever
/// reads it or to root.
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
    /// Drops all but the first. For when nothing in the store needs them any more.
    void retire();
    /// Text of the file.
    SecretBytes serialize() const;
    const std::string& current() const noexcept { return current_; }
    bool has(std::string_view id) const { return keys_.contains(std::string{id}); }
    std::size_t size() const noexcept { return keys_.size(); }

    /// `context` names what is sealed and where it belongs: a box moved to another row does not open.
    Sealed seal(std::string_view context, ByteView plain) const;
    /// Throws Error{Fault::system} when the key is not in the file, or the box does not open under it.
    SecretBytes open(std::string_view context, const Sealed& sealed) const;

private:
    SealKeys() = default;
    std::string current_;
    std::map<std::string, AeadKey> keys_;
};

/// Refuses a file that others than its owner may read, or that belongs to neither this user nor root. Throws Error{Fault::system} with the remedy.
void expect_private(const Path& path);

} // namespace sev::attest::owner
