// SPDX-License-Identifier: Apache-2.0
// The whole process `sevctl measurement build` (4 MiB OVMF, SEV-ES, 4 vCPUs) against virt-qemu-sev-validate and sev-snp-measure on the same
// launch, in turns in one run, and its peak memory. A peer that is not there is said aloud; its bound is not checked then.
//
// usage: bench_measurement_build SEVCTL [SEV-SNP-MEASURE]
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>

#include <fcntl.h>

#include "base/error.hpp"
#include "base/file.hpp"
#include "ovmf-measure/launch_digest.hpp"
#include "tests/bench/bench.hpp"

namespace {

using namespace sev;
using namespace sev::measure;
using Words = std::vector<std::string>;

constexpr std::size_t image_bytes = 4U << 20;
constexpr unsigned vcpus = 4;
constexpr double want_ratio = 5;
constexpr long want_peak_kib = 16 * 1024;
constexpr const char* validate_program = "/usr/bin/virt-qemu-sev-validate";

class Folder {
public:
    Folder() {
        if (!mkdtemp(path_.data())) throw Error{Fault::system, "mkdtemp failed"};
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    ~Folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    std::string operator/(std::string_view name) const { return path_ + "/" + std::string{name}; }

private:
    std::string path_ = (std::filesystem::temp_directory_path() / "xen-sev-bench-XXXXXX").string();
};

struct Ended {
    int status;
    long peak_kib; // ru_maxrss
};

/// Runs a program to its end; stdout and stderr go to the file `output`.
Ended run(const Words& words, const std::string& output) {
    std::vector<char*> argv;
    for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    const pid_t child = fork();
    if (child < 0) throw Error{Fault::system, "fork failed"};
    if (child == 0) {
        const int out = open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (out < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0) _exit(127);
        execvp(argv[0], argv.data());
        _exit(127);
    }
    int status = 0;
    struct rusage usage {};
    if (wait4(child, &status, 0, &usage) != child) throw Error{Fault::system, "wait4 failed"};
    return {.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128, .peak_kib = usage.ru_maxrss};
}

/// Debian's OVMF as one image of exactly 4 MiB (variables, then code), or where it is absent a synthetic one with a GUID table. Written in
/// pieces that are gone again: a child begins with its parent's memory, and the peak that counts is the child's.
std::string make_image(const std::string& path) {
    const Path vars = "/usr/share/OVMF/OVMF_VARS_4M.fd", code = "/usr/share/OVMF/OVMF_CODE_4M.fd";
    const bool real = std::filesystem::exists(vars) && std::filesystem::exists(code) &&
                      std::filesystem::file_size(vars) + std::filesystem::file_size(code) == image_bytes;
    std::ofstream out{path, std::ios::binary};
    if (real) {
        for (const Path& part : {vars, code}) out << std::ifstream{part, std::ios::binary}.rdbuf();
    } else {
        FirmwareTable table;
        table.entries.push_back({.guid = guid::sev_es_reset_block, .file_offset = 0, .data = {0x04, 0xB0, 0x80, 0x00}});
        Bytes tail = table.serialize();
        tail.resize(tail.size() + 32);
        for (std::size_t left = image_bytes - tail.size(); left != 0;) {
            Bytes piece(std::min<std::size_t>(left, 65536));
            random_bytes(piece);
            out.write(reinterpret_cast<const char*>(piece.data()), static_cast<std::streamsize>(piece.size()));
            left -= piece.size();
        }
        out.write(reinterpret_cast<const char*>(tail.data()), static_cast<std::streamsize>(tail.size()));
    }
    out.close();
    if (!out) throw Error{Fault::system, fmt::format("{}: write failed", path)};
    return real ? "OVMF_VARS_4M.fd and OVMF_CODE_4M.fd" : "synthetic";
}

void require_success(std::string_view what, const Ended& ended, const std::string& output) {
    if (ended.status == 0) return;
    throw Error{Fault::system, fmt::format("{} ended with {}: {}", what, ended.status, printable(read_text(output, 65536), 400))};
}

int bench_main(const std::string& sevctl, const std::optional<std::string>& snp_measure) {
    const Folder folder;
    const std::string firmware = folder / "firmware.fd", output = folder / "output", tik = folder / "tik.bin", tek = folder / "tek.bin";
    const std::string image = make_image(firmware);
    write_file(tik, Bytes(16, 0x11), Visibility::secret, Existing::refuse);
    write_file(tek, Bytes(16, 0x22), Visibility::secret, Existing::refuse);
    const std::string page[] = {folder / "vmsa0.bin", folder / "vmsa1.bin"};
    for (const unsigned cpu : {0U, 1U}) {
        require_success("sevctl vmsa build",
                        run({sevctl, "vmsa", "build", page[cpu], "--cpu", std::to_string(cpu), "--family", "23", "--model", "1", "--stepping", "2",
                             "--firmware", firmware, "--userspace", "qemu"},
                            output),
                        output);
    }
    const std::string number = std::to_string(vcpus), nonce = base64(Bytes(16, 0x33));
    const Words common{"--api-major", "0", "--api-minor", "24", "--build-id", "15", "--policy", "5", "--tik", tik, "--firmware", firmware,
                       "--num-cpus", number, "--vmsa-cpu0", page[0], "--vmsa-cpu1", page[1]};
    const auto with = [&common](Words words) {
        words.insert(words.end(), common.begin(), common.end());
        return words;
    };
    const Words ours = with({sevctl, "measurement", "build", "--nonce", nonce});
    require_success("sevctl measurement build", run(ours, output), output);
    std::string measurement = read_text(output, 4096);
    measurement.resize(std::min<std::size_t>(measurement.size(), 64)); // without the newline

    struct Peer {
        std::string name;
        Words words;
        bench::Samples times;
    };
    std::vector<Peer> peers;
    if (std::filesystem::exists(validate_program)) {
        // its modules belong to the distribution's Python; the right answer shows that both measured the same
        peers.push_back({"virt-qemu-sev-validate", with({"/usr/bin/python3", validate_program, "--tek", tek, "--measurement", measurement}), {}});
    } else {
        fmt::print("SKIPPED: {} is absent (Debian package libvirt-clients-qemu)\n", validate_program);
    }
    if (snp_measure && std::filesystem::exists(*snp_measure)) {
        peers.push_back({"sev-snp-measure", {*snp_measure, "--mode", "seves", "--vcpus", number, "--vcpu-type", "EPYC-v4", "--ovmf", firmware}, {}});
    } else {
        fmt::print("SKIPPED: sev-snp-measure is absent ({})\n", snp_measure.value_or("no path given"));
    }

    constexpr unsigned rounds = 15, ours_a_round = 4;
    bench::Samples our_times;
    long peak_kib = 0;
    for (unsigned round = 0; round < rounds; ++round) {
        for (unsigned i = 0; i < ours_a_round; ++i) {
            Ended ended{};
            our_times.time([&] { ended = run(ours, output); });
            require_success("sevctl measurement build", ended, output);
            peak_kib = std::max(peak_kib, ended.peak_kib);
        }
        for (Peer& peer : peers) {
            Ended ended{};
            peer.times.time([&] { ended = run(peer.words, output); });
            require_success(peer.name, ended, output);
        }
    }

    bench::print_machine();
    fmt::print("measurement build of 4 MiB ({}), SEV-ES, {} vCPUs: {} runs, median {:.2f} ms, peak memory {} KiB, want {} or less\n", image,
               vcpus, our_times.count(), 1e3 * our_times.median_seconds(), peak_kib, want_peak_kib);
    bool good = peak_kib <= want_peak_kib;
    for (const Peer& peer : peers) {
        const double ratio = peer.times.median_seconds() / our_times.median_seconds();
        fmt::print("{}: {} runs, median {:.2f} ms: sevctl is {:.1f} times as fast, want {} or more\n", peer.name, peer.times.count(),
                   1e3 * peer.times.median_seconds(), ratio, want_ratio);
        good = good && ratio >= want_ratio;
    }
    return good ? 0 : 1;
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 2 && argc != 3) {
        fmt::print(stderr, "usage: {} SEVCTL [SEV-SNP-MEASURE]\n", argv[0]);
        return 2;
    }
    try {
        return bench_main(argv[1], argc == 3 ? std::optional<std::string>{argv[2]} : std::nullopt);
    } catch (const Error& error) {
        fmt::print(stderr, "bench_measurement_build: {}\n", error.what());
        return 2;
    }
}
