// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>

namespace sev::probe {

enum class Truth { yes, no, unknown, not_applicable };
std::string_view name(Truth truth); // "yes", "no", "unknown", "not applicable"

/// How good a fact is: read from the CPU or the firmware itself (direct); said about it by a kernel, driver or hypervisor (reported); following from
/// other facts (inferred); or not to be had from here (none).
enum class Confidence { direct, reported, inferred, none };
std::string_view name(Confidence confidence);

/// An answer, why it is so, and who says so. An unknown one always has its reason.
struct Fact {
    Truth truth = Truth::unknown;
    std::string because;
    std::string source;
    Confidence confidence = Confidence::none;

    bool yes() const noexcept { return truth == Truth::yes; }
    bool no() const noexcept { return truth == Truth::no; }
    bool unknown() const noexcept { return truth == Truth::unknown; }
    friend bool operator==(const Fact&, const Fact&) = default;
};
inline Fact fact(bool truth, std::string because, std::string source, Confidence confidence) {
    return {truth ? Truth::yes : Truth::no, std::move(because), std::move(source), confidence};
}
inline Fact unknown(std::string because) { return {Truth::unknown, std::move(because), {}, Confidence::none}; }
inline Fact not_applicable(std::string because) { return {Truth::not_applicable, std::move(because), {}, Confidence::none}; }

} // namespace sev::probe
