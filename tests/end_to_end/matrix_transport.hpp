#pragma once

#include "actors/local_runtime.hpp"
#include "tests/actors/tcp_client.hpp"

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace moira {

/// What two runs of one request are compared by.
struct matrix_outcome {
    std::string logits_hash;
    std::vector<token_id> token_ids;
    std::int32_t cached_tokens = 0;
    bool operator==(const matrix_outcome& other) const {
        return logits_hash == other.logits_hash && token_ids == other.token_ids;
    }
};

/// One token, or the end of one request. `failure` says why a request has no outcome.
struct matrix_event {
    std::size_t request = 0;
    std::optional<matrix_outcome> finished;
    std::string failure;
};

/// One way to reach a runtime. Events come in the order in which they happened; next() waits for one.
class matrix_transport {
public:
    virtual ~matrix_transport() = default;
    virtual void submit(std::size_t request, const generation_input& input) = 0;
    virtual matrix_event next() = 0;
};

/// Events from other threads, in the order in which they came.
class matrix_mailbox {
public:
    void put(matrix_event event);
    matrix_event take();

private:
    std::mutex lock_;
    std::condition_variable arrived_;
    std::deque<matrix_event> events_;
};

/// Functions of the same process.
class direct_transport final : public matrix_transport {
public:
    explicit direct_transport(local_runtime& runtime) : runtime_(runtime) {}
    void submit(std::size_t request, const generation_input& input) override;
    matrix_event next() override { return mailbox_->take(); }

private:
    local_runtime& runtime_;
    /// Outlives the transport when a test gives up early: the runtime still calls back.
    std::shared_ptr<matrix_mailbox> mailbox_ = std::make_shared<matrix_mailbox>();
};

/// The handle that host programs use, in the runtime's own actor system.
class embedded_transport final : public matrix_transport {
public:
    explicit embedded_transport(local_runtime& runtime);
    ~embedded_transport() override;
    void submit(std::size_t request, const generation_input& input) override;
    matrix_event next() override;

private:
    struct actors;
    std::unique_ptr<actors> actors_;
    std::shared_ptr<matrix_mailbox> mailbox_ = std::make_shared<matrix_mailbox>();
};

/// A TCP client of the line protocol, over loopback.
class tcp_transport final : public matrix_transport {
public:
    explicit tcp_transport(const std::string& address) : client_(address) {}
    void submit(std::size_t request, const generation_input& input) override;
    matrix_event next() override;

private:
    tcp_client client_;
};

/// Server-sent events over loopback, a connection and a thread for each request. HTTP tells no token ids: they stay
/// empty.
class http_transport final : public matrix_transport {
public:
    explicit http_transport(std::string address) : address_(std::move(address)) {}
    ~http_transport() override;
    void submit(std::size_t request, const generation_input& input) override;
    matrix_event next() override { return mailbox_.take(); }

private:
    void read_stream(std::size_t request, const std::string& text);

    std::string address_;
    matrix_mailbox mailbox_;
    std::vector<std::thread> threads_;
};

} // namespace moira
