// SPDX-License-Identifier: Apache-2.0
#include "ovmf-measure/xen/version.hpp"

#include <array>
#include <charconv>

#include <fmt/format.h>

#include "base/bytes.hpp"
#include "base/error.hpp"

namespace sev::measure {
namespace {

constexpr XenVersion oldest{4, 17, 0}, newest_release{4, 22, 0};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// What may follow the three numbers: nothing, or a package's revision: "+13-g2445b30a44-0+deb12u1", "-3.fc41", "~bpo12+1".
bool is_package_revision(std::string_view rest) {
    if (rest.empty()) return true;
    for (const std::string_view word : {"rc", "pre", "unstable", "dev"})
        if (rest.find(word) != std::string_view::npos) return false;
    return rest.front() == '+' || rest.front() == '~' || (rest.front() == '-' && rest.size() > 1 && is_digit(rest[1]));
}

} // namespace

std::string_view name(XenGuestType type) { return type == XenGuestType::pvh ? "pvh" : "hvm"; }

XenVersion XenVersion::parse(std::string_view text, std::string_view what) {
    const auto refuse = [&] {
        return Error{Fault::usage,
                     fmt::format("{} is {}, want the version of a release, such as 4.17.7", what, text.empty() ? "empty" : printable(text))};
    };
    std::string_view rest = text;
    if (const auto colon = rest.find(':'); colon != std::string_view::npos && colon > 0 && colon < 6) // a package's epoch
        rest = rest.substr(rest.find_first_not_of("0123456789") == colon ? colon + 1 : 0);
    std::array<unsigned, 3> numbers{};
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        if (i > 0) {
            if (!rest.starts_with('.')) throw refuse();
            rest.remove_prefix(1);
        }
        const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), numbers[i]);
        if (error != std::errc{} || numbers[i] > 999 || (rest.size() > 1 && rest[0] == '0' && is_digit(rest[1]))) throw refuse();
        rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
    }
    if (!is_package_revision(rest)) throw refuse();
    return {.major = numbers[0], .minor = numbers[1], .patch = numbers[2]};
}

std::string XenVersion::text() const { return fmt::format("{}.{}.{}", major, minor, patch); }

XenRules xen_rules(XenVersion version, XenGuestType type) {
    const auto refuse = [&](std::string_view why, std::string_view hint) {
        throw Error{Fault::usage, fmt::format("Xen {}: the initial image of a {} guest cannot be predicted: {}", version.text(), name(type), why),
                    std::string{hint}};
    };
    if (version < oldest) refuse("releases before 4.17 build it otherwise, and nobody has looked how", "use Xen 4.17 or newer");
    if (version.major > newest_release.major || (version.major == newest_release.major && version.minor > newest_release.minor))
        refuse(fmt::format("it is newer than {}.{}, the newest release whose builder is known here", newest_release.major, newest_release.minor),
               "use a newer xen-sev");
    const auto at_least = [&](unsigned minor, unsigned patch) { return version >= XenVersion{4, minor, patch}; };
    if (type == XenGuestType::pvh) {
        const bool zeroed = version.minor == 17   ? version.patch >= 6
                            : version.minor == 18 ? version.patch >= 4
                            : version.minor == 19 ? version.patch >= 1
                                                  : true;
        if (!zeroed)
            refuse("its ACPI pages hold left-over bytes of the toolstack's heap (XSA-464)", "use 4.17.6, 4.18.4, 4.19.1 or newer");
    }
    return {.gunzips_ramdisk = !at_least(20, 0),
            .acpi_is_nvs = at_least(21, 0),
            .console_has_connection = at_least(21, 0),
            .virt_base_needed = !at_least(18, 0),
            .lzma_memory_mib = at_least(18, 0) ? 256U : 128U};
}

} // namespace sev::measure
