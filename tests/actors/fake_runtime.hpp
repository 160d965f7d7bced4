#pragma once

#include "actors/request_port.hpp"
#include "actors/tcp_server.hpp"

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

/// A runtime without a model: each request gets `max_tokens` tokens "t0 t1 ...", one per round for all that run, from a
/// thread of its own. Rounds go on by themselves or, paused, only when the test asks for them.
class fake_runtime final : public moira::request_port {
public:
    struct options {
        bool paused = false;         ///< rounds only by step()
        std::size_t token_bytes = 0; ///< each text is padded to this
    };

    explicit fake_runtime(options with);
    fake_runtime() : fake_runtime(options{}) {}
    ~fake_runtime() override;

    /// The server to answer; before the first request.
    void serve(moira::tcp_server& server);

    /// Forgets the server; call before it goes.
    void leave();

    /// One round for everything that runs.
    void step();

    std::size_t running() const;
    std::size_t submitted() const { return submitted_; }
    std::size_t cancelled() const { return cancelled_; }

    // request_port
    void submit(std::uint64_t tag, std::shared_ptr<const moira::generation_input> input) override;
    void cancel(std::uint64_t tag) override;
    void request_statistics(std::uint64_t ticket) override;
    void inject_fault(const std::string&) override {}
    /// Ids are the text's bytes, a text the ids' letters.
    void request_text(std::uint64_t ticket, moira::text_question question) override;
    moira::expert_store_statistics expert_statistics() const override;

private:
    struct sequence {
        std::shared_ptr<const moira::generation_input> input;
        moira::generation_result outcome;
        bool cancelled = false;
    };

    void run();
    std::shared_ptr<moira::output_batch> round();
    bool advance(std::uint64_t tag, sequence& running, moira::output_batch& batch) const;

    options options_;
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    moira::tcp_server* server_ = nullptr;
    std::map<std::uint64_t, sequence> running_;
    bool ending_ = false;
    std::atomic<std::size_t> submitted_{0}, cancelled_{0};
    std::thread thread_;
};
