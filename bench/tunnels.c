/* Load that nothing in Debian makes: tunnels opened, filled and counted, at little cost of its own.
 *
 *   tunnels serve PORT
 *       Answers "G..." with a small HTTP answer and closes; "B" with zeros until hung up on; any
 *       other byte with itself.
 *   tunnels open ADDRESS PORT TARGET SECONDS AT_ONCE [RATE]
 *       One connection after the other in AT_ONCE places: CONNECT to TARGET (none if it is "-"),
 *       a request, its answer up to the end of the stream. A TARGET that is a whole URL is asked of
 *       the proxy itself, without a tunnel. With RATE, so many a second begin at even times, and
 *       what one took is counted from when it was due, so that a stall shows in all it held up.
 *   tunnels fill ADDRESS PORT TARGET SECONDS STREAMS
 *       Reads what the server's zeros bring, and drops it in the kernel (MSG_TRUNC).
 *   tunnels hold ADDRESS PORT TARGET COUNT...
 *       Opens tunnels, a byte there and back in each, and says "held COUNT" at each count; then
 *       stays.
 *   tunnels wait ADDRESS PORT SECONDS
 *       Ends when the port accepts a connection, or with 1 after so many seconds.
 *
 * One JSON object on standard output: what was done each second, how long the middle and the slowest
 * hundredth took (ms), what failed, and the processor time of this very process.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTING, ASKING, OPEN, FILLING };
enum { DESCRIPTORS = 1 << 16, EVENTS = 256, CHUNK = 1 << 20, TIMES = 1 << 22 };

static int state[DESCRIPTORS];
static double began[DESCRIPTORS];
static float times[TIMES];
static char scratch[CHUNK];
static const char REQUEST[] = "GET /small HTTP/1.0\r\nHost: x\r\n\r\n";
static const char ANSWER[] =
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int poll, int how, int descriptor, unsigned events) {
    struct epoll_event event = {.events = events, .data.fd = descriptor};
    if (epoll_ctl(poll, how, descriptor, &event) < 0) die("epoll_ctl");
}

static struct sockaddr_in endpoint(const char *address, int port) {
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, address, &where.sin_addr) != 1) die("address");
    return where;
}

static void serve(int port) {
    struct sockaddr_in where = endpoint("0.0.0.0", port);
    int on = 1, zeros = memfd_create("zeros", 0), poll = epoll_create1(0);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(listener, (void *)&where, sizeof where) < 0 || listen(listener, 4096) < 0) die("bind");
    if (ftruncate(zeros, CHUNK) < 0) die("ftruncate");
    watch(poll, EPOLL_CTL_ADD, listener, EPOLLIN);
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(poll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int peer = events[i].data.fd;
            if (peer == listener) {
                while ((peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    state[peer] = OPEN;
                    watch(poll, EPOLL_CTL_ADD, peer, EPOLLIN);
                }
                continue;
            }
            if (state[peer] == FILLING) {
                off_t from = 0;
                if (sendfile(peer, zeros, &from, CHUNK) < 0 && errno != EAGAIN) close(peer);
                continue;
            }
            ssize_t got = recv(peer, scratch, 4096, 0);
            if (got < 0 && errno == EAGAIN) continue;
            if (got > 0 && scratch[0] == 'B') {
                state[peer] = FILLING;
                watch(poll, EPOLL_CTL_MOD, peer, EPOLLOUT);
            } else if (got > 0 && scratch[0] != 'G') {
                if (send(peer, scratch, 1, MSG_NOSIGNAL) < 0) close(peer);
            } else {
                if (got > 0 && send(peer, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL) < 0) got = -1;
                close(peer);
            }
        }
    }
}

static void begin(int poll, const struct sockaddr_in *where, double due) {
    int on = 1, peer = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (peer < 0 || peer >= DESCRIPTORS) die("socket");
    setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(peer, (const void *)where, sizeof *where) < 0 && errno != EINPROGRESS)
        die("connect");
    state[peer] = CONNECTING;
    began[peer] = due;
    watch(poll, EPOLL_CTL_ADD, peer, EPOLLOUT);
}

static int ascending(const void *one, const void *other) {
    float a = *(const float *)one, b = *(const float *)other;
    return (a > b) - (a < b);
}

static void report(double rate, long done, long failed) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    long kept = done < TIMES ? done : TIMES;
    qsort(times, kept, sizeof *times, ascending);
    printf("{\"rate\": %.3f, \"failed\": %ld, \"p50\": %.4f, \"p99\": %.4f, \"own_cpu_s\": %.3f}\n",
           rate, failed, kept ? times[kept / 2] : 0, kept ? times[kept * 99 / 100] : 0,
           used.ru_utime.tv_sec + used.ru_stime.tv_sec +
               (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
}

static int opening_of(const char *target, char *opening, int size) {
    if (!strcmp(target, "-")) return 0;
    return snprintf(opening, size, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target);
}

static void load(const struct sockaddr_in *where, const char *target, double seconds, int places,
                 int filling, double rate) {
    char opening[1024] = "", asked[1024];
    int poll = epoll_create1(0), url = !strncmp(target, "http://", 7);
    int length = url ? 0 : opening_of(target, opening, sizeof opening), tunnel = length > 0;
    long done = 0, failed = 0, started_ones = 0;
    double bytes = 0, started = now(), end = started + seconds, at = started;
    const char *first = filling ? "B" : REQUEST;
    if (url) {
        int host = strcspn(target + 7, "/");
        snprintf(asked, sizeof asked, "GET %s HTTP/1.0\r\nHost: %.*s\r\n\r\n", target, host,
                 target + 7);
        first = asked;
    }
    for (int i = 0; i < places && !rate; i++) begin(poll, where, now());
    while ((at = now()) < end) {
        struct epoll_event events[EVENTS];
        double due = started + started_ones / (rate ? rate : 1);
        while (rate && due <= at && started_ones - done - failed < places) {
            begin(poll, where, due);
            due = started + ++started_ones / rate;
        }
        int count = epoll_wait(poll, events, EVENTS, rate ? 1 : 100);
        for (int i = 0; i < count; i++) {
            int peer = events[i].data.fd, whole = 0;
            ssize_t got = 0;
            if (state[peer] == CONNECTING) {
                const char *said = tunnel ? opening : first;
                long size = tunnel ? length : (long)strlen(first);
                got = send(peer, said, size, MSG_NOSIGNAL);
                state[peer] = tunnel ? ASKING : OPEN;
                if (got == size) {
                    watch(poll, EPOLL_CTL_MOD, peer, EPOLLIN);
                    continue;
                }
            } else if (filling && state[peer] == OPEN) {
                got = recv(peer, scratch, CHUNK, MSG_TRUNC);
                if (got > 0) bytes += got;
                if (got > 0 || (got < 0 && errno == EAGAIN)) continue;
            } else {
                got = recv(peer, scratch, 65536, 0);
                if (got < 0 && errno == EAGAIN) continue;
                if (state[peer] == ASKING) {
                    int sound = got > 12 && memcmp(scratch + 9, "200", 3) == 0;
                    if (sound && send(peer, first, strlen(first), MSG_NOSIGNAL) > 0) {
                        state[peer] = OPEN;
                        continue;
                    }
                } else if (got > 0) {
                    state[peer] = FILLING; /* something of the answer is there */
                    continue;
                } else {
                    whole = got == 0 && state[peer] == FILLING;
                }
            }
            if (whole && done < TIMES) times[done] = (now() - began[peer]) * 1e3;
            whole ? done++ : failed++;
            close(peer);
            if (!rate) begin(poll, where, now());
        }
    }
    report((filling ? bytes : done) / (at - started), done, failed);
}

static int patient(const struct sockaddr_in *where) {
    struct timeval limit = {.tv_sec = 20};
    int on = 1, peer = socket(AF_INET, SOCK_STREAM, 0);
    if (peer < 0) die("socket");
    setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(peer, (const void *)where, sizeof *where) == 0) return peer;
    close(peer);
    return -1;
}

static void hold(const struct sockaddr_in *where, const char *target, int counts, char **words) {
    char opening[1024];
    int length = opening_of(target, opening, sizeof opening), held = 0;
    for (int i = 0; i < counts; i++) {
        for (; held < atoi(words[i]); held++) {
            int peer = patient(where);
            if (peer < 0) die("connect");
            if (length) {
                send(peer, opening, length, MSG_NOSIGNAL);
                ssize_t got = 0;
                scratch[0] = 0;
                while (!strstr(scratch, "\r\n\r\n")) {
                    ssize_t more = recv(peer, scratch + got, 4095 - got, 0);
                    if (more <= 0) die("CONNECT");
                    scratch[got += more] = 0;
                }
                if (memcmp(scratch + 9, "200", 3)) die("CONNECT was refused");
            }
            if (send(peer, "H", 1, MSG_NOSIGNAL) != 1 || recv(peer, scratch, 1, 0) != 1)
                die("echo");
        }
        printf("held %d \n", held);
        fflush(stdout);
    }
    pause();
}

static int await_port(const struct sockaddr_in *where, double seconds) {
    double end = now() + seconds;
    while (now() < end) {
        if (patient(where) >= 0) return 0;
        usleep(2000);
    }
    return 1;
}

int main(int count, char **words) {
    signal(SIGPIPE, SIG_IGN);
    struct rlimit all;
    getrlimit(RLIMIT_NOFILE, &all);
    all.rlim_cur = all.rlim_max;
    setrlimit(RLIMIT_NOFILE, &all);
    if (count == 3 && !strcmp(words[1], "serve")) {
        serve(atoi(words[2]));
    } else if (count >= 7 && (!strcmp(words[1], "open") || !strcmp(words[1], "fill"))) {
        struct sockaddr_in where = endpoint(words[2], atoi(words[3]));
        load(&where, words[4], atof(words[5]), atoi(words[6]), words[1][0] == 'f',
             count > 7 ? atof(words[7]) : 0);
        return 0;
    } else if (count >= 6 && !strcmp(words[1], "hold")) {
        struct sockaddr_in where = endpoint(words[2], atoi(words[3]));
        hold(&where, words[4], count - 5, words + 5);
    } else if (count == 5 && !strcmp(words[1], "wait")) {
        struct sockaddr_in where = endpoint(words[2], atoi(words[3]));
        return await_port(&where, atof(words[4]));
    }
    fputs("usage: tunnels serve|open|fill|hold|wait ...; see the head of the source\n", stderr);
    return 2;
}
