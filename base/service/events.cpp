// SPDX-License-Identifier: Apache-2.0
#include "base/service/events.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::service {

std::string Event::wire() const { return fmt::format("id: {}\nevent: {}\ndata: {}\n\n", id, type, data); }

std::optional<Event> Subscription::take() {
    const std::scoped_lock lock{mutex_};
    if (waiting_.empty()) return std::nullopt;
    Event event = std::move(waiting_.front());
    waiting_.pop_front();
    return event;
}

bool Subscription::ended() const {
    const std::scoped_lock lock{mutex_};
    return ended_ && waiting_.empty();
}

void Subscription::on_ready(std::function<void()> wake) {
    const std::scoped_lock lock{mutex_};
    wake_ = std::move(wake);
    if (wake_ && (ended_ || !waiting_.empty())) wake_();
}

void Subscription::offer(const Event& event) {
    const std::scoped_lock lock{mutex_};
    if (ended_) return;
    if (waiting_.size() >= backlog_limit)
        ended_ = true; // what waits is still sent; the gap shows in the ids
    else
        waiting_.push_back(event);
    if (wake_) wake_();
}

void Subscription::end() {
    const std::scoped_lock lock{mutex_};
    ended_ = true;
    if (wake_) wake_();
}

EventHub::~EventHub() { close(); }

std::uint64_t EventHub::publish(std::string type, std::string data) {
    require(type.find_first_of("\r\n") == std::string::npos && data.find_first_of("\r\n") == std::string::npos, "an event has no line breaks");
    const std::scoped_lock lock{mutex_};
    history_.push_back({.id = ++last_id_, .type = std::move(type), .data = std::move(data)});
    if (history_.size() > history_limit) history_.pop_front();
    std::erase_if(listeners_, [](const auto& listener) { return listener.expired(); });
    for (const auto& weak : listeners_)
        if (const auto listener = weak.lock()) listener->offer(history_.back());
    return last_id_;
}

std::shared_ptr<Subscription> EventHub::subscribe(std::optional<std::uint64_t> after) {
    auto subscription = std::make_shared<Subscription>();
    const std::scoped_lock lock{mutex_};
    if (after)
        for (const Event& event : history_)
            if (event.id > *after) subscription->offer(event);
    if (closed_)
        subscription->end();
    else
        listeners_.push_back(subscription);
    return subscription;
}

void EventHub::close() {
    const std::scoped_lock lock{mutex_};
    closed_ = true;
    for (const auto& weak : listeners_)
        if (const auto listener = weak.lock()) listener->end();
    listeners_.clear();
}

std::size_t EventHub::listeners() const {
    const std::scoped_lock lock{mutex_};
    return static_cast<std::size_t>(std::ranges::count_if(listeners_, [](const auto& listener) { return !listener.expired(); }));
}

} // namespace sev::service
