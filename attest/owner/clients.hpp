// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sev::attest::owner {

/// Who may ask the owner for sessions, and under which policies. A host chooses the policy it asks for; what it may not name here it cannot be judged
/// by.
struct Client {
    std::string channel; // "uid:0", "cert:" and 64 hex digits, "stdio:NAME"; "cert:any" and "stdio:any" stand for all of their kind
    std::string label;   // for people; may be empty
    std::optional<std::vector<std::string>> policies; // nullopt is the explicit "any"
    friend bool operator==(const Client&, const Client&) = default;
};

/// Deny by default: an empty list lets nobody in.
class Clients {
public:
    Clients() = default;
    explicit Clients(std::vector<Client> list) : list_{std::move(list)} {}
    /// The entry for a channel: its own, before one that stands for all of its kind.
    const Client* find(std::string_view channel) const;
    bool may_ask(std::string_view channel) const { return find(channel) != nullptr; }
    bool may_use(std::string_view channel, std::string_view policy) const;
    const std::vector<Client>& list() const noexcept { return list_; }
    friend bool operator==(const Clients&, const Clients&) = default;

private:
    std::vector<Client> list_;
};

} // namespace sev::attest::owner
