#include "kernels/cuda/host/shadow_memory.hpp"

namespace moira {

namespace {

bool same_warp(uint16_t a, uint16_t b) {
    return a / 32 == b / 32;
}

bool races(uint16_t thread, uint32_t clock, uint32_t stamp, const simt_moment& now) {
    if (thread == now.thread || (same_warp(thread, now.thread) && clock != now.clock))
        return false;
    return now.known == nullptr || stamp == 0 || now.known[thread] < stamp;
}

bool write_races(const shadow_byte& byte, const simt_moment& now, uint32_t first_epoch) {
    if (byte.write_epoch < first_epoch)
        return false;
    if (byte.write_block != now.block)
        return true;
    return byte.write_epoch == now.epoch && races(byte.write_thread, byte.write_clock, byte.write_stamp, now);
}

bool read_races(const shadow_byte& byte, const simt_moment& now, uint32_t first_epoch) {
    if (byte.read_epoch < first_epoch)
        return false;
    if (byte.read_block != now.block || byte.read_by_blocks)
        return true;
    if (byte.read_epoch != now.epoch)
        return false;
    return races(byte.read_thread, byte.read_clock, byte.read_stamp, now) ||
           (byte.has_other && races(byte.other_thread, byte.other_clock, byte.other_stamp, now));
}

void remember_read(shadow_byte& byte, const simt_moment& now, uint32_t first_epoch, const simt_origin& origin) {
    if (byte.read_epoch < first_epoch)
        byte.read_by_blocks = false;
    else if (byte.read_block != now.block)
        byte.read_by_blocks = true;
    if (byte.read_epoch != now.epoch) {
        byte.has_other = false;
    } else if (byte.read_thread != now.thread && !(byte.has_other && !same_warp(byte.other_thread, now.thread))) {
        byte.has_other = true;
        byte.other_thread = byte.read_thread;
        byte.other_clock = byte.read_clock;
        byte.other_stamp = byte.read_stamp;
    }
    byte.read_epoch = now.epoch;
    byte.read_clock = now.clock;
    byte.read_stamp = now.stamp;
    byte.read_block = now.block;
    byte.read_thread = now.thread;
    byte.read_origin = origin;
}

} // namespace

shadow_conflict shadow_judge(shadow_byte& byte, simt_access access, const simt_moment& now, uint32_t first_epoch,
                             bool shared, const simt_origin& origin) {
    shadow_conflict conflict = shadow_conflict::none;
    const bool both_atomic = access == simt_access::atomic && byte.write_atomic;
    if (byte.in_flight)
        conflict = shadow_conflict::in_flight;
    else if (shared && access != simt_access::write && byte.write_epoch < first_epoch)
        conflict = shadow_conflict::unwritten;
    else if (!both_atomic && write_races(byte, now, first_epoch))
        conflict = shadow_conflict::with_write;
    else if (access != simt_access::read && read_races(byte, now, first_epoch))
        conflict = shadow_conflict::with_read;
    if (access == simt_access::read) {
        remember_read(byte, now, first_epoch, origin);
        return conflict;
    }
    byte.write_epoch = now.epoch;
    byte.write_clock = now.clock;
    byte.write_stamp = now.stamp;
    byte.write_block = now.block;
    byte.write_thread = now.thread;
    byte.write_atomic = access == simt_access::atomic;
    byte.write_origin = origin;
    return conflict;
}

} // namespace moira
