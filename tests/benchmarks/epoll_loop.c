/* The least that a finger server can do: it answers any line with its second argument, and closes.
 *
 *     epoll_loop PORT ANSWER
 *
 * Connections are accepted for as long as there are any, and read at once; epoll is for those whose line is not here yet.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256

static const char *answer;
static size_t answer_length;

/* Read what is there; after a line or the end, answer and close. Return whether the line is still to come. */
static int waits(int client)
{
    char data[1024];
    ssize_t length = recv(client, data, sizeof data, 0);
    if (length < 0 && errno == EAGAIN)
        return 1;
    if (length > 0 && memchr(data, '\n', length) == NULL)
        return 1;
    if (length > 0) {
        send(client, answer, answer_length, MSG_NOSIGNAL);
        shutdown(client, SHUT_WR);
    }
    close(client);
    return 0;
}

int main(int count, char **arguments)
{
    if (count != 3)
        errx(2, "usage: epoll_loop PORT ANSWER");
    answer = arguments[2];
    answer_length = strlen(answer);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(arguments[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 4096) < 0)
        err(1, "port %s", arguments[1]);
    int poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = listener}, events[EVENTS];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &wanted);
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);
        for (int place = 0; place < ready; place++) {
            if (events[place].data.fd != listener) {
                waits(events[place].data.fd); /* closing takes it from the poller */
                continue;
            }
            int client;
            while ((client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
                if (!waits(client))
                    continue;
                wanted.data.fd = client;
                epoll_ctl(poller, EPOLL_CTL_ADD, client, &wanted);
            }
        }
    }
}
