// SPDX-License-Identifier: Apache-2.0
#include "launch/probe/files.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

#include <fcntl.h>
#include <sys/klog.h>
#include <unistd.h>

#include <fmt/format.h>

#include "launch/probe/bundle.hpp"

namespace sev::probe {
namespace {

constexpr std::size_t line_bytes = 256;

std::string first_line(std::string_view text) { return printable(text.substr(0, std::min(text.find('\n'), text.size())), Bundle::limit_text / 4); }

/// The words of `text` for which `wanted` holds, in order, one space between them.
template <class Wanted>
std::string words_of(std::string_view text, Wanted&& wanted) {
    std::string out;
    while (!text.empty()) {
        const auto end = std::min(text.find_first_of(" \t\n"), text.size());
        const std::string_view word = text.substr(0, end);
        if (!word.empty() && wanted(word)) out += (out.empty() ? "" : " ") + printable(word, 64);
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    out.resize(std::min(out.size(), Bundle::limit_text));
    return out;
}

/// "microcode\t: 0x8001250": the text after the colon of the first line with this key.
Reading<std::string> field_of(std::string_view text, std::string_view key) {
    while (!text.empty()) {
        const auto end = std::min(text.find('\n'), text.size());
        const std::string_view line = text.substr(0, end);
        const auto colon = line.find(':');
        if (colon != std::string_view::npos && line.substr(0, line.find_first_of(" \t:")) == key)
            return std::string{line.substr(std::min(line.find_first_not_of(" \t", colon + 1), line.size()))};
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return Failure{0, fmt::format("/proc/cpuinfo has no line {}", key)};
}

/// What the file holds, until it ends or `more` of what was read is false.
template <class More>
Reading<std::string> read_while(const Path& path, std::size_t limit_bytes, More&& more) {
    const Fd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)};
    if (!fd) return failure_of(errno);
    std::string out;
    std::array<char, 4096> chunk{};
    do {
        const ssize_t got = ::read(fd.get(), chunk.data(), chunk.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return failure_of(errno);
        if (got == 0) return out;
        out.append(chunk.data(), static_cast<std::size_t>(got));
        if (out.size() > limit_bytes) return failure_of(EFBIG);
    } while (more(out));
    return out;
}

} // namespace

Reading<std::string> read_all(const Path& path, std::size_t limit_bytes) {
    return read_while(path, limit_bytes, [](std::string_view) { return true; });
}

Reading<std::string> read_line(const Path& path) {
    const auto text = read_while(path, 64 * 1024, [](std::string_view read) { return read.find('\n') == std::string_view::npos; });
    if (!text.value()) return text;
    return first_line(*text.value());
}

Reading<std::uint64_t> read_hexadecimal(const Path& path) {
    const auto line = read_line(path);
    if (line.failure()) return *line.failure();
    const std::string& text = *line.value();
    std::uint64_t out = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, 16);
    if (error != std::errc{} || end != text.data() + text.size())
        return Failure{0, fmt::format("{} is no hexadecimal number", text.empty() ? "an empty text" : text)};
    return out;
}

Reading<std::uint64_t> read_msr(const Path& device, std::uint32_t number) {
    const Fd fd{::open(device.c_str(), O_RDONLY | O_CLOEXEC)};
    if (!fd) return failure_of(errno);
    std::uint64_t out = 0;
    const ssize_t got = ::pread(fd.get(), &out, sizeof out, static_cast<off_t>(number));
    if (got < 0) return failure_of(errno);
    if (got != sizeof out) return Failure{0, "short read of an MSR"};
    return out;
}

Reading<std::vector<PspDevice>> read_psp_devices(const Path& root) {
    const Path bus = root / "sys/bus/pci/devices";
    std::error_code error;
    std::vector<Path> entries;
    for (std::filesystem::directory_iterator at{bus, error}, end; !error && at != end; at.increment(error)) entries.push_back(at->path());
    if (error) return Failure{error.value(), error.message()};
    std::ranges::sort(entries);
    std::vector<PspDevice> out;
    for (const Path& entry : entries) {
        const auto text = [&](const char* name) {
            const auto line = read_line(entry / name);
            return line.value() ? *line.value() : std::string{};
        };
        std::error_code unbound;
        const std::string driver = std::filesystem::read_symlink(entry / "driver", unbound).filename().string();
        // a server has hundreds of devices: their class is asked first, for it alone sorts most of them out
        const bool encryption_controller = text("class").starts_with("0x1080") && text("vendor") == "0x1022";
        if (!encryption_controller && driver != "ccp") continue;
        if (out.size() == PspDevice::limit) return Failure{0, fmt::format("more than {} devices", PspDevice::limit)};
        out.push_back({.address = printable(entry.filename().string(), 32),
                       .device = text("device"),
                       .driver = printable(driver, 32),
                       .tsme_status = read_line(entry / "tsme_status")});
    }
    return out;
}

CpuInfo read_cpu_info(const Path& root) {
    constexpr std::array wanted{"sme", "sev", "sev_es", "sev_snp", "svm", "hypervisor", "debug_swap"};
    const auto text = read_all(root / "proc/cpuinfo", 8 << 20);
    if (text.failure()) return {*text.failure(), *text.failure()};
    CpuInfo out{.microcode = field_of(*text.value(), "microcode"), .flags = field_of(*text.value(), "flags")};
    if (out.microcode.value()) out.microcode = printable(*out.microcode.value(), 64);
    if (out.flags.value())
        out.flags = words_of(*out.flags.value(), [&](std::string_view word) { return std::ranges::find(wanted, word) != wanted.end(); });
    return out;
}

Reading<std::string> read_kernel_arguments(const Path& root) {
    const auto text = read_all(root / "proc/cmdline", 64 * 1024);
    if (!text.value()) return text;
    return words_of(*text.value(), [](std::string_view word) {
        constexpr std::array about{"mem_encrypt", "kvm_amd.", "kvm-amd.", "ccp.", "psp_init_on_probe", "sev="};
        return std::ranges::any_of(about, [&](std::string_view prefix) { return word.starts_with(prefix); });
    });
}

Reading<std::string> read_xen_version(const Path& root) {
    const Path folder = root / "sys/hypervisor/version";
    const auto major = read_line(folder / "major"), minor = read_line(folder / "minor"), extra = read_line(folder / "extra");
    if (!major.value()) return major;
    if (!minor.value()) return minor;
    return fmt::format("{}.{}{}", *major.value(), *minor.value(), extra.value() ? *extra.value() : "");
}

KernelLog about_encryption(std::string_view log) {
    constexpr std::array words{"SEV", "SME", "ccp ", "Memory Encryption", "memory encryption", "psp enabled", "psp: ", "kvm_amd", "kvm-amd"};
    KernelLog out;
    while (!log.empty() && out.size() < Bundle::limit_lines) {
        const auto end = std::min(log.find('\n'), log.size());
        const std::string_view line = log.substr(0, end);
        const bool wanted = std::ranges::any_of(words, [&](std::string_view word) { return line.find(word) != std::string_view::npos; });
        // the command line may hold private words, and any word at all
        if (wanted && line.find("ommand line:") == std::string_view::npos) out.push_back(printable(line.substr(0, line_bytes), line_bytes / 2));
        log.remove_prefix(std::min(end + 1, log.size()));
    }
    return out;
}

Reading<KernelLog> read_kernel_log() {
    constexpr int read_everything = 3, buffer_size = 10; // syslog(2)
    constexpr int limit_bytes = 16 << 20;
    const int size_bytes = ::klogctl(buffer_size, nullptr, 0);
    if (size_bytes < 0) return failure_of(errno);
    std::string log(static_cast<std::size_t>(std::clamp(size_bytes, 1, limit_bytes)), '\0');
    const int got = ::klogctl(read_everything, log.data(), static_cast<int>(log.size()));
    if (got < 0) return failure_of(errno);
    log.resize(static_cast<std::size_t>(got));
    return about_encryption(log);
}

KernelLog read_saved_log(const Path& path) { return about_encryption(read_text(path, 8 << 20)); }

} // namespace sev::probe
