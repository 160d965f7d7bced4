#include "tests/actors/fake_runtime.hpp"

using namespace moira;

fake_runtime::fake_runtime(options with) : options_(with), thread_([this] { run(); }) {}

fake_runtime::~fake_runtime() {
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

void fake_runtime::serve(tcp_server& server) {
    const std::lock_guard lock(mutex_);
    server_ = &server;
}

void fake_runtime::leave() {
    const std::lock_guard lock(mutex_);
    server_ = nullptr;
}

void fake_runtime::submit(std::uint64_t tag, std::shared_ptr<const generation_input> input) {
    ++submitted_;
    {
        const std::lock_guard lock(mutex_);
        sequence fresh;
        fresh.input = std::move(input);
        running_.emplace(tag, std::move(fresh));
    }
    changed_.notify_all();
}

void fake_runtime::cancel(std::uint64_t tag) {
    {
        const std::lock_guard lock(mutex_);
        const auto found = running_.find(tag);
        if (found == running_.end())
            return;
        found->second.cancelled = true;
    }
    ++cancelled_;
    changed_.notify_all();
}

void fake_runtime::request_statistics(std::uint64_t ticket) {
    const std::lock_guard lock(mutex_);
    auto statistics = std::make_shared<runtime_statistics>();
    statistics->batch.running = static_cast<std::int32_t>(running_.size());
    if (server_ != nullptr)
        server_->deliver_statistics(ticket, std::shared_ptr<const runtime_statistics>(std::move(statistics)));
}

void fake_runtime::request_text(std::uint64_t ticket, text_question question) {
    text_answer answer;
    for (const char letter : question.text.value_or(""))
        answer.ids.push_back(static_cast<unsigned char>(letter));
    for (const auto id : question.ids.value_or(std::vector<token_id>{}))
        answer.text += static_cast<char>(id);
    const std::lock_guard lock(mutex_);
    if (server_ != nullptr && !options_.paused)
        server_->deliver_text(ticket, std::move(answer));
}

expert_store_statistics fake_runtime::expert_statistics() const {
    return {};
}

std::size_t fake_runtime::running() const {
    const std::lock_guard lock(mutex_);
    return running_.size();
}

void fake_runtime::step() {
    const std::lock_guard lock(mutex_);
    auto batch = round();
    if (server_ != nullptr)
        server_->deliver(std::move(batch));
}

void fake_runtime::run() {
    std::unique_lock lock(mutex_);
    while (!ending_) {
        changed_.wait(lock, [&] { return ending_ || (!options_.paused && server_ != nullptr && !running_.empty()); });
        if (ending_)
            return;
        auto batch = round();
        if (server_ != nullptr)
            server_->deliver(std::move(batch));
        lock.unlock();
        std::this_thread::yield();
        lock.lock();
    }
}

/// The mutex is held.
std::shared_ptr<output_batch> fake_runtime::round() {
    auto batch = std::make_shared<output_batch>();
    for (auto each = running_.begin(); each != running_.end();)
        each = advance(each->first, each->second, *batch) ? running_.erase(each) : std::next(each);
    return batch;
}

/// True when the sequence has ended.
bool fake_runtime::advance(std::uint64_t tag, sequence& running, output_batch& batch) const {
    auto& outcome = running.outcome;
    output_event event;
    event.tag = tag;
    outcome.prompt_tokens = 1;
    if (running.cancelled) {
        outcome.reason = finish_reason::cancelled;
    } else if (running.input->prompt == "refuse") {
        outcome = {};
        outcome.failure = error{errc::queue_full, "the fake is full"};
    } else {
        const auto number = outcome.completion_tokens++;
        auto text = std::string("t").append(std::to_string(number)).append(" ");
        text.resize(std::max(text.size(), options_.token_bytes), '.');
        outcome.text += text;
        outcome.token_ids.push_back(number);
        event.tokens.push_back({number, std::move(text)});
        if (outcome.completion_tokens < running.input->max_tokens.value_or(1))
            return batch.events.push_back(std::move(event)), false;
        outcome.reason = finish_reason::length;
    }
    event.finished = outcome;
    batch.events.push_back(std::move(event));
    return true;
}
