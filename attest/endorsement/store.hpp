// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "attest/endorsement/retry.hpp"
#include "attest/endorsement/verify.hpp"
#include "base/file.hpp"

namespace sev::endorsement {

/// Where endorsements are kept when nobody says otherwise: /var/cache/xen-sev for root, else xen-sev under `xdg_cache_home`, else under
/// `home`/.cache. Throws Error{Fault::usage} when none of these is known. The two are what a program's main found in its environment, or empty.
Path default_directory(bool root, std::string_view xdg_cache_home, std::string_view home);

/// An exclusive lock between processes, held until it dies.
class Lock {
public:
    /// Waits until `deadline` at most, with `sleep` between attempts. Throws Error{Fault::system} that names the file, also when another process
    /// still has it.
    static Lock take(const Path& file, Time deadline, const std::function<Time()>& now, const std::function<void(Milliseconds)>& sleep);

private:
    explicit Lock(Fd fd) : fd_{std::move(fd)} {}
    Fd fd_;
};

struct StoredCek {
    psp::SevCertificate cek;
    Authority authority;
    friend bool operator==(const StoredCek&, const StoredCek&) = default;
};

/// Endorsements on disk. A CEK never changes, so what is there is good for ever; it is also never trusted: everything is verified each time it is
/// read.
///
/// `ca/PRODUCT.cert`     ASK‖ARK                  `ca/PRODUCT.missing`  a server has none (MissingNote)
/// `cek/ID.cert`         CEK of a chip id         `cek/ID.missing`
/// `cek/key-FP.cert`     the same by SevCertificate::fingerprint, which a platform's unsigned CEK has too
/// `server/HOST_PORT.wait`  when a server may be asked again (WaitNote)
/// `lock/NAME`           one flight for each thing
///
/// Directories are made when first needed, mode 0755; files are 0644 and appear whole or not at all. Reading never changes anything. A note that is
/// broken, about something else, or beyond what is ever believed (longest_wait, longest_missing) counts as absent. Throws Error{Fault::system} when a
/// file cannot be read or written.
class Store {
public:
    explicit Store(Path directory) : directory_{std::move(directory)} {}
    const Path& directory() const noexcept { return directory_; }
    Path ca_path(psp::Product product) const;
    Path cek_path(const psp::ChipId& id) const;
    Path cek_path(const Digest& fingerprint) const;

    Judged<Authority> ca(psp::Product product, const std::vector<psp::Root>& roots) const;
    /// With the authorities at hand; `product` narrows it to one.
    Judged<StoredCek> cek(const psp::ChipId& id, const std::vector<psp::Root>& roots, std::optional<psp::Product> product = std::nullopt) const;
    /// The signed form of a platform's own, unsigned CEK.
    Judged<StoredCek> cek(const Digest& fingerprint, const std::vector<psp::Root>& roots) const;

    void put_ca(const Authority& authority) const;
    /// `id` when it is known. Also removes a note that the CEK is missing.
    void put_cek(const psp::SevCertificate& cek, const std::optional<psp::ChipId>& id) const;

    std::optional<MissingNote> missing_ca(psp::Product product, Time now) const;
    std::optional<MissingNote> missing_cek(const psp::ChipId& id, Time now) const;
    void put_missing_ca(psp::Product product, const MissingNote& note) const;
    void put_missing_cek(const psp::ChipId& id, const MissingNote& note) const;

    std::optional<WaitNote> wait(std::string_view server, Time now) const;
    void put_wait(const WaitNote& note) const;
    void clear_wait(std::string_view server) const;

    /// The lock file of that name, its directory made.
    Path lock_path(std::string_view name) const;

    /// File names in one of the folders, sorted; at most `limit` of them, and none when it is absent.
    std::vector<std::string> names(std::string_view folder, std::size_t limit) const;

private:
    Judged<StoredCek> cek_at(const Path& path, const std::vector<psp::Root>& roots, std::optional<psp::Product> product) const;
    std::optional<MissingNote> missing(const Path& path, std::string_view subject, Time now) const;
    void put(const Path& path, ByteView bytes) const;
    void make_folder(const Path& folder) const;
    Path directory_;
};

/// Subjects of a MissingNote, and names for people.
std::string subject_of(psp::Product product);
std::string subject_of(const psp::ChipId& id);

/// The authorities that could have signed `cek`: by the algorithm its signature claims.
std::vector<psp::Product> possible_products(const psp::SevCertificate& cek);

} // namespace sev::endorsement
