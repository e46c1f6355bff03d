// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <utility>
#include <variant>

namespace sev::probe {

/// A reader was not asked, and why.
struct NotTried {
    std::string why;
    friend bool operator==(const NotTried&, const NotTried&) = default;
};

/// A reader was asked and could not say. `error_number` is the errno, or 0 when the operating system gave none.
struct Failure {
    int error_number = 0;
    std::string text;
    friend bool operator==(const Failure&, const Failure&) = default;
};

/// The raw outcome of one reader: a value, a failure, or not tried. It is recorded as it came; what it means is `assess`'s business.
template <class T>
class Reading {
public:
    using Value = T;
    Reading() : outcome_{NotTried{"not in this record"}} {}
    Reading(T value) : outcome_{std::move(value)} {}
    Reading(Failure failure) : outcome_{std::move(failure)} {}
    Reading(NotTried not_tried) : outcome_{std::move(not_tried)} {}

    const T* value() const noexcept { return std::get_if<T>(&outcome_); }
    const Failure* failure() const noexcept { return std::get_if<Failure>(&outcome_); }
    const NotTried* not_tried() const noexcept { return std::get_if<NotTried>(&outcome_); }
    bool failed_with(int error_number) const noexcept { return failure() && failure()->error_number == error_number; }
    /// Why there is no value; empty when there is one.
    std::string why_not() const {
        if (failure()) return failure()->text;
        return not_tried() ? not_tried()->why : std::string{};
    }
    friend bool operator==(const Reading&, const Reading&) = default;

private:
    std::variant<NotTried, Failure, T> outcome_;
};

/// The failure of a system call, from errno.
Failure failure_of(int error_number);

} // namespace sev::probe
