#include "actors/batcher.hpp"

#include "actors/caf_edition.hpp"
#include "core/batch/step_clock.hpp"
#include "actors/statistics_clerk.hpp"
#include "core/batch/verdict_wait.hpp"

#include <limits>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <vector>

namespace moira {

namespace {

using clock = std::chrono::steady_clock;

class batcher_state {
public:
    batcher_state() = default;

    using pointer = batcher_actor::stateful_pointer<batcher_state>;

    void start(pointer self, const batcher_actor_options& options, const execution_stream_actor& stream) {
        self_ = self;
        options_ = options;
        stream_ = stream;
        machine_.emplace(options.batch, options.token_bytes);
        started_ = clock::now();
        self->set_down_handler([this](const caf::down_msg& gone) { part_ended(gone.source); });
        use_verifier(options.verifier);
    }

    void admit(const admitted_request_ptr& request) {
        if (hangs_) {
            tell(request->sink, refused(request->tag, hang_error()));
            return;
        }
        const auto id = request->request->id;
        if (ids_.contains(key_of(request->sink, request->tag))) {
            tell(request->sink, refused(request->tag, {errc::duplicate_id, "a request with this number is still running"}));
            return;
        }
        if (auto done = machine_->admit(std::move(*request->request), clock::now()); !done) {
            tell(request->sink, refused(request->tag, done.error()));
            return;
        }
        if (sinks_.insert(request->sink.address()).second)
            self_->monitor(request->sink);
        callers_.emplace(id, caller{request->sink, request->tag});
        ids_.emplace(key_of(request->sink, request->tag), id);
        next_step();
    }

    void cancel(std::uint64_t tag, const sink_actor& sink) {
        if (const auto found = ids_.find(key_of(sink, tag)); found != ids_.end())
            end(found->second);
        next_step();
    }

    /// Where drafts were verified, the verdict is waited for: it brings the next proposals. Otherwise they are used
    /// when they come.
    void advance(const step_result_ptr& outcome) {
        hangs_ = false;
        if (!verdicts_.holds(outcome, machine_->drafts_in_flight(), clock::now()))
            conclude(verdicts_.take_judged(outcome));
        else
            watch_verdict();
    }

    void take_verdict(const step_verdict_ptr& verdict) {
        const auto arrived = verdicts_.verdict_came(verdict);
        if (arrived == verdict_wait::arrival::concludes)
            conclude_held();
        else if (arrived == verdict_wait::arrival::late)
            machine_->take_proposals(*verdict);
    }

    void use_verifier(const speculative_verifier_actor& verifier) {
        verifier_ = verifier;
        verdicts_.verifier_changed(static_cast<bool>(verifier_));
        machine_->follow_again();
        if (verifier_) {
            self_->monitor(verifier_);
            self_->send(verifier_, verdict_atom{}, verdict_listener_actor{batcher_actor{self_}});
        }
        conclude_held();
    }

    void conclude(const verdict_wait::judged_step& step) {
        const auto now = clock::now();
        const auto& outcome = step.result;
        clock_.step_received(now, outcome->compute_s, follows_);
        compute_s_ += outcome->compute_s;
        stall_s_ += outcome->stall_s;
        const auto plan = std::exchange(plan_, nullptr);
        auto outputs = machine_->advance(*outcome, now, step.verdict.get());
        // The stream gets its next step before anybody reads the news of this one.
        follows_ = next_step();
        show_verifier(plan, outcome);
        deliver(std::move(outputs));
        answer_drain();
    }

    /// A step without drafts, which the stream has shown to nobody else; the next one runs already.
    void show_verifier(const step_plan_ptr& plan, const step_result_ptr& outcome) {
        if (verifier_ && plan && plan->number == outcome->number && plan->to_verify && !plan->holds_drafts)
            self_->send(verifier_, judge_atom{}, plan, outcome);
    }

    /// The stream before ended between two steps, or its step is lost: every running sequence is recomputed from its
    /// prompt and the tokens that were emitted; clients see a pause.
    void use_stream(const execution_stream_actor& stream) {
        conclude_held();
        stream_ = stream;
        hangs_ = false;
        machine_->preempt(std::numeric_limits<std::int32_t>::max());
        step_result lost;
        lost.number = step_number_;
        lost.failure = error{errc::restarted, "the execution stream was lost"};
        deliver(machine_->advance(lost, clock::now()));
        follows_ = false;
        next_step();
        answer_drain();
    }

    void watch() {
        watch_step();
        if (verdicts_.overdue(clock::now(), options_.verdict_wait_max))
            conclude_held();
        verdict_watched_ = false;
        if (verdicts_.waiting())
            watch_verdict();
    }

    /// A step that exceeds its time is not waited for: its requests, and all others, end with an error. The device is
    /// free again when the step returns after all.
    void watch_step() {
        if (hangs_ || machine_->idle() || clock::now() - step_begun_ < options_.step_timeout)
            return;
        hangs_ = true;
        deliver(machine_->fail_all(hang_error(), clock::now()));
    }

    void preempt(std::int32_t count) { machine_->preempt(count); }

    caf::typed_response_promise<bool> drain() {
        auto promise = self_->make_response_promise<bool>();
        draining_ = true;
        drained_.push_back(promise);
        answer_drain();
        return promise;
    }

    caf::typed_response_promise<runtime_statistics_ptr> statistics() {
        auto promise = self_->make_response_promise<runtime_statistics_ptr>();
        auto all = std::make_shared<runtime_statistics>();
        all->identity = *options_.identity;
        all->batch = machine_->statistics();
        all->experts = options_.model->expert_statistics();
        all->uptime_s = std::chrono::duration<double>(clock::now() - started_).count();
        all->compute_s = compute_s_;
        all->stall_s = stall_s_;
        all->overhead_us_p50 = clock_.overhead_us(0.5);
        all->overhead_us_p99 = clock_.overhead_us(0.99);
        all->draining = draining_;
        all->step_hangs = hangs_;
        if (options_.restarts)
            all->restarts = options_.restarts->counts();
        promise.delegate(spawn_statistics_clerk(self_->system(), options_.model), stats_atom{},
                         runtime_statistics_ptr(std::move(all)));
        return promise;
    }

private:
    struct caller {
        sink_actor sink;
        std::uint64_t tag = 0;
    };
    using caller_key = std::pair<caf::actor_id, std::uint64_t>;

    static caller_key key_of(const sink_actor& sink, std::uint64_t tag) { return {sink.id(), tag}; }

    error hang_error() const {
        return {errc::device_error, "a step has been computing for more than " + std::to_string(options_.step_timeout.count()) +
                                        " s: the device hangs"};
    }

    /// Hands the next plan to the stream; false when there is none.
    bool next_step() {
        auto plan = machine_->next_plan(clock::now());
        if (!plan)
            return false;
        step_number_ = plan->number;
        step_begun_ = clock::now();
        verdicts_.step_begins(plan->number);
        plan_ = plan;
        tell_verifier();
        self_->send(stream_, run_step_atom{}, std::move(plan), step_listener_actor{batcher_actor{self_}});
        return true;
    }

    /// Before the step goes to the stream, so that its result finds the texts.
    void tell_verifier() {
        auto orders = machine_->take_follow_orders();
        if (verifier_ && !orders.empty())
            self_->send(verifier_, follow_atom{}, follow_orders_ptr(std::make_shared<const std::vector<follow_order>>(std::move(orders))));
    }

    /// The step's result is judged here, without a verdict.
    void conclude_held() {
        if (const auto step = verdicts_.take())
            conclude(*step);
    }

    /// One timer at a time, only while a verdict is waited for.
    void watch_verdict() {
        if (!std::exchange(verdict_watched_, true))
            self_->delayed_send(self_, options_.verdict_wait_max, watch_atom{});
    }

    void part_ended(const caf::actor_addr& gone) {
        if (verifier_ && verifier_.address() == gone) {
            verifier_ = nullptr;
            verdicts_.verifier_changed(false);
            conclude_held();
        } else {
            drop_sink(gone);
        }
    }

    void end(request_id id) {
        if (auto output = machine_->cancel(id, finish_reason::cancelled, std::nullopt, clock::now())) {
            std::vector<sequence_output> outputs;
            outputs.push_back(std::move(*output));
            deliver(std::move(outputs));
        }
        answer_drain();
    }

    /// One message per sink with everything that the step has for it.
    void deliver(std::vector<sequence_output> outputs) {
        std::map<caf::actor_id, std::pair<sink_actor, std::shared_ptr<output_batch>>> by_sink;
        for (auto& output : outputs) {
            const auto found = callers_.find(output.id);
            if (found == callers_.end())
                continue;
            const auto [sink, tag] = found->second;
            auto& [to, batch] = by_sink[sink.id()];
            if (!batch) {
                to = sink;
                batch = std::make_shared<output_batch>();
            }
            if (output.finished) {
                ids_.erase(key_of(sink, tag));
                callers_.erase(found);
            }
            batch->events.push_back({tag, std::move(output.tokens), std::move(output.tail_text), std::move(output.finished)});
        }
        for (auto& [id, news] : by_sink)
            self_->send(news.first, output_batch_ptr(std::move(news.second)));
    }

    void tell(const sink_actor& sink, output_event event) {
        auto batch = std::make_shared<output_batch>();
        batch->events.push_back(std::move(event));
        self_->send(sink, output_batch_ptr(std::move(batch)));
    }

    /// Nobody listens any more: what the sink asked for is cancelled.
    void drop_sink(const caf::actor_addr& gone) {
        sinks_.erase(gone);
        std::vector<request_id> orphans;
        for (const auto& [id, who] : callers_)
            if (who.sink.address() == gone)
                orphans.push_back(id);
        for (const auto id : orphans)
            end(id);
        next_step();
    }

    void answer_drain() {
        if (drained_.empty() || !machine_->idle())
            return;
        for (auto& promise : drained_)
            promise.deliver(true);
        drained_.clear();
    }

    pointer self_ = nullptr;
    batcher_actor_options options_;
    execution_stream_actor stream_;
    std::optional<batcher> machine_;
    std::unordered_map<request_id, caller> callers_;
    std::map<caller_key, request_id> ids_;
    std::set<caf::actor_addr> sinks_;
    std::vector<caf::typed_response_promise<bool>> drained_;
    step_clock clock_;
    bool follows_ = false;
    bool hangs_ = false;
    std::uint64_t step_number_ = 0;
    step_plan_ptr plan_;                   ///< of the step in flight
    speculative_verifier_actor verifier_;
    verdict_wait verdicts_;
    bool verdict_watched_ = false;
    clock::time_point step_begun_{};
    bool draining_ = false;  ///< intake asks once it takes nothing new, for good
    clock::time_point started_{};
    double compute_s_ = 0, stall_s_ = 0;
};

batcher_actor::behavior_type run_batcher(batcher_state::pointer self, const batcher_actor_options& options,
                                         const execution_stream_actor& stream) {
    self->state.start(self, options, stream);
    return {
        [self](admit_atom, const admitted_request_ptr& request) { self->state.admit(request); },
        [self](cancel_atom, std::uint64_t tag, const sink_actor& sink) { self->state.cancel(tag, sink); },
        [self](advance_atom, const step_result_ptr& outcome) { self->state.advance(outcome); },
        [self](verdict_atom, const step_verdict_ptr& verdict) { self->state.take_verdict(verdict); },
        [self](verifier_atom, const speculative_verifier_actor& fresh) { self->state.use_verifier(fresh); },
        [self](stream_atom, const execution_stream_actor& fresh) { self->state.use_stream(fresh); },
        [self](watch_atom) { self->state.watch(); },
        [self](preempt_atom, std::int32_t count) { self->state.preempt(count); },
        [self](drain_atom) { return self->state.drain(); },
        [self](stats_atom) { return self->state.statistics(); },
    };
}

}  // namespace

batcher_actor spawn_batcher(caf::actor_system& system, const batcher_actor_options& options,
                            const execution_stream_actor& stream) {
    return spawn_part<batcher_actor, batcher_state>(system, run_batcher, options, stream);
}

}  // namespace moira
