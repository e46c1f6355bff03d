// SPDX-License-Identifier: Apache-2.0
#include "attest/owner/seal_keys.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::attest::owner {
namespace {

constexpr std::string_view heading = "xen-sev-seal-keys 1\n";
constexpr std::size_t id_digits = 16, key_digits = 64, line_size = id_digits + 1 + key_digits + 1;

AeadKey drawn() {
    return AeadKey::filled_by([](auto out) { random_bytes(out); });
}

int digit(std::uint8_t c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

/// Hex digits straight into the key: no copy in a string that nobody wipes.
AeadKey key_from(ByteView digits, const std::string& where) {
    return AeadKey::filled_by([&](std::span<std::uint8_t, 32> out) {
        for (std::size_t i = 0; i < out.size(); ++i) {
            const int high = digit(digits[2 * i]), low = digit(digits[2 * i + 1]);
            if (high < 0 || low < 0) throw Error{Fault::malformed, where + ": the key is not 64 lower-case hex digits"};
            out[i] = static_cast<std::uint8_t>(high << 4 | low);
        }
    });
}

void put_hex(std::span<std::uint8_t> out, ByteView bytes) {
    static constexpr std::string_view digits = "0123456789abcdef";
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        out[2 * i] = static_cast<std::uint8_t>(digits[bytes[i] >> 4]);
        out[2 * i + 1] = static_cast<std::uint8_t>(digits[bytes[i] & 0xF]);
    }
}

} // namespace

SealKeys SealKeys::fresh() {
    SealKeys out;
    out.rotate();
    return out;
}

SealKeys SealKeys::load(const Path& path) {
    expect_private(path);
    SealKeys out = parse(read_secret(path, limit_bytes).reveal(), path.string());
    out.path_ = path;
    return out;
}

SealKeys SealKeys::parse(ByteView text, std::string_view what) {
    if (!as_text(text).starts_with(heading)) throw Error{Fault::malformed, fmt::format("{}: does not begin with \"xen-sev-seal-keys 1\"", what)};
    SealKeys out;
    ByteView rest = text.subspan(heading.size());
    for (std::size_t line = 2; !rest.empty(); ++line) {
        const std::string where = fmt::format("{}: line {}", what, line);
        if (rest.size() < line_size || rest[id_digits] != ' ' || rest[line_size - 1] != '\n')
            throw Error{Fault::malformed, fmt::format("{}: want 16 hex digits, a space, 64 hex digits and a line feed", where)};
        std::string id{as_text(rest.first(id_digits))};
        if (id.find_first_not_of("0123456789abcdef") != std::string::npos)
            throw Error{Fault::malformed, where + ": the id is not 16 lower-case hex digits"};
        if (out.ring_->keys.size() == key_limit) throw Error{Fault::malformed, fmt::format("{}: more than {} keys", where, key_limit)};
        if (!out.ring_->keys.emplace(id, key_from(rest.subspan(id_digits + 1, key_digits), where)).second)
            throw Error{Fault::malformed, where + ": the id stands twice"};
        if (out.ring_->current.empty()) out.ring_->current = id;
        rest = rest.subspan(line_size);
    }
    if (out.ring_->keys.empty()) throw Error{Fault::malformed, fmt::format("{}: has no key", what)};
    return out;
}

std::string SealKeys::add() {
    if (ring_->keys.size() == key_limit)
        throw Error{Fault::usage, fmt::format("seal keys: {} are there already", key_limit),
                    "drop the ones that nothing needs: sev-owner key rotate --retire"};
    std::string id = hex(random_array<id_digits / 2>());
    require(ring_->keys.emplace(id, drawn()).second, "a drawn key id is new");
    return id;
}

void SealKeys::rotate() {
    const std::lock_guard lock{*mutex_};
    ring_->current = add();
}

std::string SealKeys::prepare() {
    const std::lock_guard lock{*mutex_};
    return add();
}

void SealKeys::use(const std::string& id) {
    const std::lock_guard lock{*mutex_};
    if (!ring_->keys.contains(id))
        throw Error{Fault::usage, fmt::format("seal key {} is not in the key file", printable(id)), "sev-owner key rotate --prepare makes one"};
    ring_->current = id;
}

void SealKeys::retire() {
    const std::lock_guard lock{*mutex_};
    std::erase_if(ring_->keys, [&](const auto& entry) { return entry.first != ring_->current; });
}

std::string SealKeys::current() const {
    const std::lock_guard lock{*mutex_};
    return ring_->current;
}

bool SealKeys::has(std::string_view id) const {
    const std::lock_guard lock{*mutex_};
    return ring_->keys.contains(std::string{id});
}

std::size_t SealKeys::size() const {
    const std::lock_guard lock{*mutex_};
    return ring_->keys.size();
}

SecretBytes SealKeys::serialize() const {
    const std::lock_guard lock{*mutex_};
    SecretBytes out{heading.size() + ring_->keys.size() * line_size};
    auto at = out.writable();
    std::ranges::copy(heading, at.begin());
    at = at.subspan(heading.size());
    const auto put = [&](const std::string& id, const AeadKey& key) {
        std::ranges::copy(id, at.begin());
        at[id_digits] = ' ';
        put_hex(at.subspan(id_digits + 1, key_digits), key.reveal());
        at[line_size - 1] = '\n';
        at = at.subspan(line_size);
    };
    put(ring_->current, ring_->keys.at(ring_->current));
    for (const auto& [id, key] : ring_->keys)
        if (id != ring_->current) put(id, key);
    return out;
}

Sealed SealKeys::seal(std::string_view context, ByteView plain) const {
    const std::lock_guard lock{*mutex_};
    return {.key_id = ring_->current, .box = aead_seal(ring_->keys.at(ring_->current), as_bytes(context), plain)};
}

void SealKeys::read_again() const {
    const auto now = within("an unknown seal key: the key file is read again", [&] { return load(path_); });
    // what was known stays: an instance of before a rotation may still seal with it
    for (const auto& [id, key] : now.ring_->keys) ring_->keys.emplace(id, AeadKey{key.reveal()});
    ring_->current = now.ring_->current;
}

SecretBytes SealKeys::open(std::string_view context, const Sealed& sealed) const {
    const std::lock_guard lock{*mutex_};
    if (!ring_->keys.contains(sealed.key_id) && !path_.empty()) read_again();
    const auto found = ring_->keys.find(sealed.key_id);
    if (found == ring_->keys.end())
        throw Error{Fault::system, fmt::format("seal key {} is not in the key file", printable(sealed.key_id)),
                    "every instance needs the same key file, with the keys of before a rotation"};
    auto plain = aead_open(found->second, as_bytes(context), sealed.box);
    if (!plain)
        throw Error{Fault::system, fmt::format("what seal key {} sealed does not open: the store was changed, or the row was moved", sealed.key_id)};
    return std::move(*plain);
}

void expect_private(const Path& path) {
    struct stat status {};
    if (stat(path.c_str(), &status) != 0)
        throw Error{Fault::system, fmt::format("{}: {}", path.string(), std::error_code{errno, std::generic_category()}.message())};
    if ((status.st_mode & 077) != 0)
        throw Error{Fault::system, fmt::format("{}: has mode {:04o}, want 0600: others can read it", path.string(), status.st_mode & 07777),
                    fmt::format("chmod 600 {}, and take the keys in it for known", path.string())};
    if (status.st_uid != geteuid() && status.st_uid != 0)
        throw Error{Fault::system, fmt::format("{}: belongs to uid {}, want {} or root", path.string(), status.st_uid, geteuid()),
                    fmt::format("as root: runuser -u $(id -nu {}) -- sev-owner …", status.st_uid)};
}

} // namespace sev::attest::owner
