#include "actors/intake.hpp"

#include "actors/caf_edition.hpp"
#include "actors/tokenize_worker.hpp"

#include <vector>

namespace moira {

namespace {

class intake_state {
public:
    intake_state() = default;

    using pointer = intake_actor::stateful_pointer<intake_state>;

    void start(pointer self, const intake_options& options, const batcher_actor& batcher) {
        self_ = self;
        batcher_ = batcher;
        ledger_ = intake_ledger(options.open_max);
        worker_ = spawn_tokenize_worker(self->system(), options.rules);
        // Without its worker intake can do nothing: they end together.
        self->link_to(worker_);
    }

    void submit(std::uint64_t tag, const generation_input_ptr& input, const sink_actor& sink) {
        auto accepted = ledger_.accept({sink.id(), tag});
        if (!accepted) {
            tell(sink, refused(tag, accepted.error()));
            return;
        }
        auto request = std::make_shared<admitted_request>();
        request->input = input;
        request->id = *accepted;
        request->sink = sink;
        request->tag = tag;
        self_->send(worker_, submit_atom{}, std::move(request), intake_actor{self_});
    }

    void pass_on(const admitted_request_ptr& request) {
        if (!ledger_.pass({request->sink.id(), request->tag}))
            tell(request->sink, cancelled(request->tag));
        else if (!request->request)
            tell(request->sink, refused(request->tag, request->request.error()));
        else
            self_->send(batcher_, admit_atom{}, request);
        drain_if_empty();
    }

    void cancel(std::uint64_t tag, const sink_actor& sink) {
        if (!ledger_.cancel({sink.id(), tag}))
            self_->send(batcher_, cancel_atom{}, tag, sink);
    }

    void kill_worker() { end_now(worker_, caf::exit_reason::kill); }

    caf::typed_response_promise<bool> drain() {
        auto promise = self_->make_response_promise<bool>();
        ledger_.drain();
        drained_.push_back(promise);
        drain_if_empty();
        return promise;
    }

    caf::typed_response_promise<runtime_statistics_ptr> statistics() {
        auto promise = self_->make_response_promise<runtime_statistics_ptr>();
        return promise.delegate(batcher_, stats_atom{}), promise;
    }

private:
    static output_event cancelled(std::uint64_t tag) {
        output_event event;
        event.tag = tag;
        event.finished.emplace();
        event.finished->reason = finish_reason::cancelled;
        return event;
    }

    void tell(const sink_actor& sink, output_event event) {
        auto batch = std::make_shared<output_batch>();
        batch->events.push_back(std::move(event));
        self_->send(sink, output_batch_ptr(std::move(batch)));
    }

    /// When nothing waits here any more, what is left to wait for is with the batcher.
    void drain_if_empty() {
        if (!ledger_.draining() || !ledger_.empty())
            return;
        for (auto& promise : drained_)
            promise.delegate(batcher_, drain_atom{});
        drained_.clear();
    }

    pointer self_ = nullptr;
    batcher_actor batcher_;
    tokenize_worker_actor worker_;
    intake_ledger ledger_{0};
    std::vector<caf::typed_response_promise<bool>> drained_;
};

intake_actor::behavior_type intake(intake_state::pointer self, const intake_options& options, const batcher_actor& batcher) {
    self->state.start(self, options, batcher);
    return {
        [self](submit_atom, std::uint64_t tag, const generation_input_ptr& input, const sink_actor& sink) {
            self->state.submit(tag, input, sink);
        },
        [self](cancel_atom, std::uint64_t tag, const sink_actor& sink) { self->state.cancel(tag, sink); },
        [self](ready_atom, const admitted_request_ptr& request) { self->state.pass_on(request); },
        [self](fault_atom) { self->state.kill_worker(); },
        [self](drain_atom) { return self->state.drain(); },
        [self](stats_atom) { return self->state.statistics(); },
    };
}

}  // namespace

intake_actor spawn_intake(caf::actor_system& system, const intake_options& options, const batcher_actor& batcher) {
    return spawn_part<intake_actor, intake_state>(system, intake, options, batcher);
}

}  // namespace moira
