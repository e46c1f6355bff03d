// SPDX-License-Identifier: Apache-2.0
// Prediction of a PVH guest (Debian's cloud kernel, ramdisk of 64 MiB): digest, digest of a later build, and every range's own digest. Against the
// raw work on the same bytes, in turns in one run: liblz4 on the kernel's payload, then OpenSSL's SHA-256 over all measured pages in one piece.
// bench_xen_predict KERNEL ACPI-REFERENCE [ROUNDS]; exit 77: no such kernel.
#include <algorithm>
#include <cstdlib>
#include <memory>

#include <lz4.h>
#include <openssl/evp.h>

#include "base/crypto.hpp"
#include "base/file.hpp"
#include "ovmf-measure/xen/predict.hpp"
#include "tests/bench/bench.hpp"

namespace {

using namespace sev;
using namespace sev::measure;

constexpr std::size_t ramdisk_bytes = 64U << 20;
constexpr unsigned usual_rounds = 21;
constexpr double want_ratio = 1.25;

std::uint32_t le32(ByteView bytes, std::size_t at) {
    std::uint32_t out = 0;
    for (unsigned i = 4; i-- > 0;) out = out << 8 | bytes[at + i];
    return out;
}

/// The lz4 chunks of a bzImage, found by hand.
struct Chunks {
    std::vector<ByteView> packed;
    std::size_t unpacked_bytes;
    explicit Chunks(ByteView kernel) {
        const std::size_t at = (std::size_t{kernel[0x1F1]} + 1) * 512 + le32(kernel, 0x248), length = le32(kernel, 0x24C);
        const ByteView payload = kernel.subspan(at, length);
        unpacked_bytes = le32(payload, length - 4);
        for (std::size_t i = 4; i + 4 < length; i += 4 + packed.back().size()) packed.push_back(payload.subspan(i + 4, le32(payload, i)));
    }
    void unpack(char* out) const {
        std::size_t written = 0;
        for (const ByteView chunk : packed) {
            const int got =
                LZ4_decompress_safe(as_text(chunk).data(), out + written, static_cast<int>(chunk.size()), static_cast<int>(unpacked_bytes - written));
            if (got < 0) std::abort();
            written += static_cast<std::size_t>(got);
        }
        if (written != unpacked_bytes) std::abort();
    }
};

} // namespace

int main(int argc, char** argv) {
    if (argc != 3 && argc != 4) return 2;
    const unsigned rounds = argc == 4 ? std::max(3U, static_cast<unsigned>(std::strtoul(argv[3], nullptr, 10))) : usual_rounds;
    if (!std::filesystem::exists(argv[1])) {
        fmt::print("SKIPPED: {} is absent (tests/fixtures/xen/debian_files.py fetches it)\n", argv[1]);
        return 77;
    }
    const Bytes kernel = read_file(argv[1], 64U << 20), reference_text = read_file(argv[2], AcpiReference::limit_bytes);
    const AcpiReference acpi = AcpiReference::from_json(json::parse(as_text(reference_text), argv[2]), argv[2]);
    Bytes ramdisk(ramdisk_bytes);
    random_bytes(ramdisk);
    XenGuestConfig config;
    config.memory_kib = 1U << 20;
    config.vcpus = acpi.vcpus;
    config.online = acpi.online;
    config.kernel = "kernel";
    config.ramdisk = "ramdisk";
    config.cmdline = "console=hvc0 root=/dev/xvda";
    XenFiles files;
    files.kernel = XenFile{.bytes = kernel, .name = "kernel"};
    files.ramdisk = XenFile{.bytes = ramdisk, .name = "ramdisk"};

    const auto predict = [&] { return predict_xen(config, files, acpi.xen_version, &acpi); };
    Bytes measured; // all that the digest covers, in one piece
    for (const XenRange& range : predict().ranges)
        range.visit([&](ByteView bytes) { measured.insert(measured.end(), bytes.begin(), bytes.end()); });
    const Chunks chunks{kernel};

    Digest ours{}, raw{};
    const auto work_raw = [&] {
        const auto out = std::make_unique_for_overwrite<char[]>(chunks.unpacked_bytes);
        chunks.unpack(out.get());
        unsigned size = 0;
        if (EVP_Digest(measured.data(), measured.size(), raw.data(), &size, EVP_sha256(), nullptr) != 1) std::abort();
    };
    bench::Samples our_times, raw_times, whole_times, raw_clock;
    for (unsigned round = 0; round < rounds; ++round) {
        if (round % 2 == 0) raw_times.time_computing(work_raw);
        our_times.time_computing([&] { ours = digest(predict(), XenOrder::ascending_gfn); });
        if (round % 2 != 0) raw_times.time_computing(work_raw);
        raw_clock.time(work_raw);
        whole_times.time([&] {
            if (measure::measure(predict(), XenOrder::ascending_gfn).digest != ours) std::abort();
        });
    }
    if (ours != raw) {
        fmt::print(stderr, "xen_predict: digests differ\n");
        return 1;
    }
    const double ratio = 1 / our_times.median_speedup_over(raw_times), whole_ratio = 1 / whole_times.median_speedup_over(raw_clock);
    const double mib = static_cast<double>(measured.size()) / (1 << 20);
    bench::print_machine();
    fmt::print("prediction of {:.0f} MiB of guest memory, {} rounds: median {:.1f} ms; raw lz4 and SHA-256 {:.1f} ms; median ratio {:.3f}, want "
               "{:.2f} or less\n",
               mib, rounds, our_times.median_seconds() * 1e3, raw_times.median_seconds() * 1e3, ratio, want_ratio);
    fmt::print("with the digest of every range and of a later build: median {:.1f} ms on the clock; ratio {:.3f}\n",
               whole_times.median_seconds() * 1e3, whole_ratio);
    return ratio <= want_ratio ? 0 : 1;
}
