// SPDX-License-Identifier: Apache-2.0
#include "attest/endorsement/store.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <fmt/format.h>

namespace sev::endorsement {
namespace {

constexpr std::array all_products{psp::Product::naples, psp::Product::rome, psp::Product::milan, psp::Product::genoa, psp::Product::turin};

[[noreturn]] void system_error(const Path& path, std::string_view doing, int error_number) {
    throw Error{Fault::system, fmt::format("{}: {}: {}", printable(path.string(), 4096), doing, std::generic_category().message(error_number))};
}

bool present(const Path& path) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) == 0) return true;
    if (errno == ENOENT || errno == ENOTDIR) return false;
    system_error(path, "open", errno);
}

/// The whole file if it is there; a file longer than `limit_bytes` is cut to one byte more, so that whoever judges it refuses it.
std::optional<Bytes> bytes_of(const Path& path, std::size_t limit_bytes) {
    if (!present(path)) return std::nullopt;
    const OpenFile file = open_regular(path);
    if (file.size_bytes > limit_bytes) return Bytes(limit_bytes + 1, 0xFF);
    return read_file(path, limit_bytes);
}

void forget(const Path& path) {
    std::error_code ignored; // a note that stays is found out of date later
    std::filesystem::remove(path, ignored);
}

/// A note from disk; broken ones count as absent, since notes only save requests.
template <class Note>
std::optional<Note> note_at(const Path& path) {
    const auto bytes = bytes_of(path, Note::limit_bytes);
    if (!bytes) return std::nullopt;
    try {
        return Note::parse(as_text(*bytes), path.string());
    } catch (const Error& error) {
        if (error.fault() != Fault::malformed) throw;
        return std::nullopt;
    }
}

std::string file_name_of(std::string_view server) {
    std::string name;
    for (const char c : server) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-';
        name += plain ? c : '_';
    }
    // '_' stands for several characters, and a host name may be longer than a file name: the digest tells them apart
    return fmt::format("{}-{}", name.substr(0, 100), hex(ByteView{sha256(as_bytes(server))}.first(4)));
}

} // namespace

Path default_directory(bool root, std::string_view xdg_cache_home, std::string_view home) {
    if (root) return "/var/cache/xen-sev";
    if (xdg_cache_home.starts_with('/')) return Path{xdg_cache_home} / "xen-sev"; // a relative one is to be ignored, says its specification
    if (home.starts_with('/')) return Path{home} / ".cache" / "xen-sev";
    throw Error{Fault::usage, "no cache directory is known: neither XDG_CACHE_HOME nor HOME is an absolute path", "name one with --cache DIR"};
}

Lock Lock::take(const Path& file, Time deadline, const std::function<Time()>& now, const std::function<void(Milliseconds)>& sleep) {
    Fd fd{::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644)};
    if (!fd) system_error(file, "create lock", errno);
    while (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno == EINTR) continue;
        if (errno != EWOULDBLOCK) system_error(file, "lock", errno);
        if (now() >= deadline)
            throw Error{Fault::system, fmt::format("{}: another process still fetches this after the whole deadline", printable(file.string(), 4096)),
                        "run it again"};
        sleep(Milliseconds{20});
    }
    return Lock{std::move(fd)};
}

std::string subject_of(psp::Product product) { return fmt::format("ca {}", psp::name(product)); }
std::string subject_of(const psp::ChipId& id) { return fmt::format("cek {}", hex(id)); }

std::vector<psp::Product> possible_products(const psp::SevCertificate& cek) {
    const psp::SignatureSlot* const slot = cek.signature_by(psp::Usage::ask);
    std::vector<psp::Product> out;
    for (const psp::Product product : all_products) {
        // the emulated PSP and tests may have any key size, so only what a product's key certainly excludes is left out by the judge, not here
        const bool small = product == psp::Product::naples;
        if (slot && (slot->algorithm == psp::Algorithm::rsa_sha256) == small) out.push_back(product);
    }
    for (const psp::Product product : all_products)
        if (std::ranges::find(out, product) == out.end()) out.push_back(product);
    return out;
}

Path Store::ca_path(psp::Product product) const { return directory_ / "ca" / fmt::format("{}.cert", psp::name(product)); }
Path Store::cek_path(const psp::ChipId& id) const { return directory_ / "cek" / fmt::format("{}.cert", hex(id)); }
Path Store::cek_path(const Digest& fingerprint) const { return directory_ / "cek" / fmt::format("key-{}.cert", hex(fingerprint)); }

Judged<Authority> Store::ca(psp::Product product, const std::vector<psp::Root>& roots) const {
    const Path path = ca_path(product);
    const auto bytes = bytes_of(path, longest_ca_bytes);
    if (!bytes) return {};
    return judge_ca(*bytes, printable(path.string(), 4096), roots, product);
}

Judged<StoredCek> Store::cek_at(const Path& path, const std::vector<psp::Root>& roots, std::optional<psp::Product> product) const {
    const auto bytes = bytes_of(path, cek_bytes);
    if (!bytes) return {};
    const std::string shown = printable(path.string(), 4096);
    const auto parsed = parse_cek(*bytes, shown);
    if (!parsed) return {.value = std::nullopt, .refusal = parsed.refusal};
    std::string refusal;
    for (const psp::Product candidate : product ? std::vector{*product} : possible_products(*parsed.value)) {
        const auto authority = ca(candidate, roots);
        if (!authority) continue;
        const auto judged = judge_cek(*parsed.value, shown, *authority.value);
        if (judged) return {.value = StoredCek{.cek = *judged.value, .authority = *authority.value}, .refusal = {}};
        if (refusal.empty()) refusal = judged.refusal;
    }
    if (refusal.empty())
        refusal = fmt::format("{}: cannot be verified without ASK and ARK of {}", shown, product ? psp::name(*product) : "its product");
    return {.value = std::nullopt, .refusal = std::move(refusal)};
}

Judged<StoredCek> Store::cek(const psp::ChipId& id, const std::vector<psp::Root>& roots, std::optional<psp::Product> product) const {
    return cek_at(cek_path(id), roots, product);
}

Judged<StoredCek> Store::cek(const Digest& fingerprint, const std::vector<psp::Root>& roots) const {
    auto found = cek_at(cek_path(fingerprint), roots, std::nullopt);
    if (found && found.value->cek.fingerprint() != fingerprint)
        return {.value = std::nullopt, .refusal = fmt::format("{}: the CEK of another key", printable(cek_path(fingerprint).string(), 4096))};
    return found;
}

void Store::make_folder(const Path& folder) const {
    for (const Path& path : {directory_, folder}) {
        std::error_code error;
        if (!std::filesystem::create_directories(path, error)) {
            if (error) system_error(path, "create", error.value());
            continue;
        }
        std::filesystem::permissions(path, std::filesystem::perms{0755}, error); // whatever the umask: there is nothing secret here
        if (error) system_error(path, "set mode", error.value());
    }
}

void Store::put(const Path& path, ByteView bytes) const {
    make_folder(path.parent_path());
    write_file(path, bytes, Visibility::readable, Existing::replace);
    if (::chmod(path.c_str(), 0644) != 0) system_error(path, "set mode", errno);
}

void Store::put_ca(const Authority& authority) const {
    put(ca_path(authority.product()), authority.serialize());
    forget(ca_path(authority.product()).replace_extension(".missing"));
}

void Store::put_cek(const psp::SevCertificate& cek, const std::optional<psp::ChipId>& id) const {
    const auto bytes = cek.serialize();
    put(cek_path(cek.fingerprint()), bytes);
    if (!id) return;
    put(cek_path(*id), bytes);
    forget(cek_path(*id).replace_extension(".missing"));
}

std::optional<MissingNote> Store::missing(const Path& path, std::string_view subject, Time now) const {
    auto note = note_at<MissingNote>(path);
    const bool holds = note && note->subject == subject && note->ask_again > now && note->ask_again <= now + longest_missing;
    return holds ? std::move(note) : std::nullopt;
}

std::optional<MissingNote> Store::missing_ca(psp::Product product, Time now) const {
    return missing(ca_path(product).replace_extension(".missing"), subject_of(product), now);
}
std::optional<MissingNote> Store::missing_cek(const psp::ChipId& id, Time now) const {
    return missing(cek_path(id).replace_extension(".missing"), subject_of(id), now);
}
void Store::put_missing_ca(psp::Product product, const MissingNote& note) const {
    put(ca_path(product).replace_extension(".missing"), as_bytes(note.serialize()));
}
void Store::put_missing_cek(const psp::ChipId& id, const MissingNote& note) const {
    put(cek_path(id).replace_extension(".missing"), as_bytes(note.serialize()));
}

std::optional<WaitNote> Store::wait(std::string_view server, Time now) const {
    auto note = note_at<WaitNote>(directory_ / "server" / (file_name_of(server) + ".wait"));
    return note && note->server == server && note->not_before <= now + longest_wait ? std::move(note) : std::nullopt;
}
void Store::put_wait(const WaitNote& note) const { put(directory_ / "server" / (file_name_of(note.server) + ".wait"), as_bytes(note.serialize())); }
void Store::clear_wait(std::string_view server) const { forget(directory_ / "server" / (file_name_of(server) + ".wait")); }

Path Store::lock_path(std::string_view name) const {
    const Path folder = directory_ / "lock";
    make_folder(folder);
    return folder / file_name_of(name);
}

std::vector<std::string> Store::names(std::string_view folder, std::size_t limit) const {
    std::vector<std::string> out;
    std::error_code error;
    const Path path = directory_ / folder;
    if (!present(path)) return out;
    std::filesystem::directory_iterator at{path, error};
    for (; !error && at != std::filesystem::directory_iterator{} && out.size() < limit; at.increment(error))
        out.push_back(at->path().filename().string());
    if (error) system_error(path, "list", error.value());
    std::ranges::sort(out);
    return out;
}

} // namespace sev::endorsement
