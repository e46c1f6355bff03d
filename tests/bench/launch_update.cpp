// SPDX-License-Identifier: Apache-2.0
// Emulated LAUNCH_UPDATE_DATA of 64 MiB, through the firmware interface, against OpenSSL's SHA-256 and then AES-128-ECB over the same bytes, in
// turns in one run.
#include <cstdlib>
#include <filesystem>

#include <openssl/evp.h>

#include "psp/command.hpp"
#include "psp/emulator/emulated_firmware.hpp"
#include "tests/bench/bench.hpp"

namespace {

using namespace sev;
using namespace sev::psp;

constexpr std::size_t image_bytes = std::size_t{64} << 20;
constexpr unsigned rounds = 15;
constexpr double want_ratio = 0.6;

void must(int result) {
    if (result != 1) std::abort();
}

struct TemporaryState {
    std::string path = (std::filesystem::temp_directory_path() / "xen-sev-bench-XXXXXX").string();
    TemporaryState() {
        if (!mkdtemp(path.data())) std::abort();
    }
    ~TemporaryState() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
};

} // namespace

int main() {
    const TemporaryState state;
    const auto emulator = emulator::Emulator::create(state.path, *emulator::find_personality("epyc-3151"));
    AddressSpace memory;
    emulator::EmulatedFirmware firmware{*emulator, memory};
    Bytes image(image_bytes);
    random_bytes(image);
    const SystemAddress at = memory.attach(image);
    run(firmware, Init{});
    run(firmware, DfFlush{});
    const GuestHandle guest = run(firmware, LaunchStart{});
    run(firmware, Activate{.guest = guest, .asid = Asid{15}});

    EVP_CIPHER_CTX* aes = EVP_CIPHER_CTX_new();
    must(EVP_EncryptInit_ex(aes, EVP_aes_128_ecb(), nullptr, random_array<16>().data(), nullptr));
    must(EVP_CIPHER_CTX_set_padding(aes, 0));
    // that what is timed is done: the memory is not as it was, and the guest sees it as it was
    const Bytes before(image.begin(), image.begin() + 4096);
    run(firmware, LaunchUpdateData{.guest = guest, .at = at, .length_bytes = image_bytes});
    Bytes seen(before.size());
    emulator->read_as_guest(guest, at, seen, memory);
    if (seen != before || std::equal(before.begin(), before.end(), image.begin())) {
        fmt::print(stderr, "launch_update: the guest's memory is not encrypted as it should be\n");
        return 1;
    }
    bench::Samples hash_times, cipher_times, our_times;
    for (unsigned round = 0; round < rounds; ++round) {
        Digest digest{};
        hash_times.time_computing([&] { must(EVP_Digest(image.data(), image.size(), digest.data(), nullptr, EVP_sha256(), nullptr)); });
        our_times.time_computing([&] { run(firmware, LaunchUpdateData{.guest = guest, .at = at, .length_bytes = image_bytes}); });
        int length = 0;
        cipher_times.time_computing([&] { must(EVP_EncryptUpdate(aes, image.data(), &length, image.data(), static_cast<int>(image.size()))); });
    }
    EVP_CIPHER_CTX_free(aes);

    const double mib = static_cast<double>(image_bytes) / (1 << 20);
    const double bound = mib / (hash_times.median_seconds() + cipher_times.median_seconds()), ours = mib / our_times.median_seconds();
    bench::print_machine();
    fmt::print("LAUNCH_UPDATE_DATA of {:.0f} MiB, {} rounds: median {:.0f} MiB/s; OpenSSL SHA-256 {:.0f} and AES-128-ECB {:.0f} MiB/s, together "
               "{:.0f} MiB/s; "
               "ratio {:.3f}, want {:.2f} or more\n",
               mib, rounds, ours, mib / hash_times.median_seconds(), mib / cipher_times.median_seconds(), bound, ours / bound, want_ratio);
    return ours / bound >= want_ratio ? 0 : 1;
}
