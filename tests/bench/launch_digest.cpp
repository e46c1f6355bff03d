// SPDX-License-Identifier: Apache-2.0
// Launch digest of a 4 MiB image (SEV-ES, 4 vCPUs, kernel hashes) against OpenSSL's SHA-256 of the same bytes in one call,
// measured in turns in one run, by processor time.
#include "ovmf-measure/launch_digest.hpp"

#include <openssl/evp.h>

#include "base/crypto.hpp"
#include "tests/bench/bench.hpp"

namespace {

using namespace sev;
using namespace sev::measure;

constexpr std::size_t image_bytes = 4U << 20;
constexpr unsigned rounds = 201;
constexpr double want_ratio = 0.90;

/// A 4 MiB image whose last bytes are a GUID table with reset and hash blocks.
Bytes make_image() {
    FirmwareTable table;
    table.entries.push_back({.guid = guid::sev_es_reset_block, .file_offset = 0, .data = {0x04, 0xB0, 0x80, 0x00}});
    table.entries.push_back({.guid = guid::sev_hash_table_block, .file_offset = 0, .data = {0x00, 0x0C, 0x81, 0x00, 0x00, 0x04, 0x00, 0x00}});
    const Bytes bytes = table.serialize();
    Bytes image(image_bytes);
    random_bytes(image);
    std::ranges::copy(bytes, image.end() - 32 - static_cast<std::ptrdiff_t>(bytes.size()));
    return image;
}

} // namespace

int main() {
    const Bytes image = make_image();
    const QemuLaunch launch{.firmware = image,
                            .kernel = KernelHashes::of(sha256(as_bytes("kernel")), std::nullopt, "quiet"),
                            .vmsas = qemu_vmsas(vmsa_profile("kvm-init2"), 4, CpuSignature::of_qemu_model("EPYC-v4"), image)};
    Bytes measured = image; // the bytes that the digest covers, in one piece
    const auto table = launch.kernel->serialize();
    measured.insert(measured.end(), table.begin(), table.end());
    for (const Vmsa& page : launch.vmsas) measured.insert(measured.end(), page.begin(), page.end());

    Digest ours{}, raw{};
    bench::Samples our_times, raw_times;
    const auto time_raw = [&] {
        raw_times.time_computing([&] {
            unsigned size = 0;
            if (EVP_Digest(measured.data(), measured.size(), raw.data(), &size, EVP_sha256(), nullptr) != 1) std::abort();
        });
    };
    for (unsigned round = 0; round < rounds; ++round) {
        if (round % 2 == 0) time_raw();
        our_times.time_computing([&] { ours = launch_digest(launch); });
        if (round % 2 != 0) time_raw();
    }
    if (ours != raw) {
        fmt::print(stderr, "launch_digest: digests differ\n");
        return 1;
    }
    const double mib = static_cast<double>(measured.size()) / (1 << 20);
    const double our_rate = mib / our_times.median_seconds(), raw_rate = mib / raw_times.median_seconds();
    const double ratio = our_times.median_speedup_over(raw_times);
    bench::print_machine();
    fmt::print("launch digest of {:.2f} MiB, {} rounds: median {:.0f} MiB/s; OpenSSL EVP_Digest SHA-256 {:.0f} MiB/s; "
               "median ratio {:.3f}, want {:.2f} or more\n",
               mib, rounds, our_rate, raw_rate, ratio, want_ratio);
    return ratio >= want_ratio ? 0 : 1;
}
