// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <utility>

#include <openssl/crypto.h>

#include "base/bytes.hpp"

namespace sev {

/// Key material: move-only, wiped when it dies or is moved from, cannot be printed, serialised or compared with ==.
template <class Tag, std::size_t Size>
class Secret {
public:
    static constexpr std::size_t size_bytes = Size;
    explicit Secret(std::span<const std::uint8_t, Size> from) { std::ranges::copy(from, data_.begin()); }
    Secret(const Secret&) = delete;
    Secret& operator=(const Secret&) = delete;
    Secret(Secret&& other) noexcept : data_{other.data_} { other.wipe(); }
    Secret& operator=(Secret&& other) noexcept {
        if (this != &other) {
            data_ = other.data_;
            other.wipe();
        }
        return *this;
    }
    ~Secret() { wipe(); }
    /// The one door; reviewers grep for it.
    std::span<const std::uint8_t, Size> reveal() const noexcept { return data_; }
    /// Makes a secret whose bytes `fill` writes in place, so that no copy is left behind on the stack.
    template <class Fill>
    static Secret filled_by(Fill&& fill) {
        Secret secret;
        std::forward<Fill>(fill)(std::span<std::uint8_t, Size>{secret.data_});
        return secret;
    }

private:
    Secret() = default;
    void wipe() noexcept { OPENSSL_cleanse(data_.data(), Size); }
    ByteArray<Size> data_{};
};

/// Key material of a length known only at run time: same rules as Secret. Its buffer never grows, so nothing is left behind by a move.
class SecretBytes {
public:
    SecretBytes() = default;
    /// `size_bytes` zero bytes, to be written through `writable`.
    explicit SecretBytes(std::size_t size_bytes) : data_(size_bytes) {}
    explicit SecretBytes(ByteView from) : data_(from.begin(), from.end()) {}
    SecretBytes(const SecretBytes&) = delete;
    SecretBytes& operator=(const SecretBytes&) = delete;
    SecretBytes(SecretBytes&& other) noexcept : data_{std::exchange(other.data_, {})} {}
    SecretBytes& operator=(SecretBytes&& other) noexcept {
        if (this != &other) {
            wipe();
            data_ = std::exchange(other.data_, {});
        }
        return *this;
    }
    ~SecretBytes() { wipe(); }
    ByteView reveal() const noexcept { return data_; }
    std::span<std::uint8_t> writable() noexcept { return data_; }
    std::size_t size() const noexcept { return data_.size(); }

private:
    void wipe() noexcept { OPENSSL_cleanse(data_.data(), data_.size()); }
    Bytes data_;
};

} // namespace sev
