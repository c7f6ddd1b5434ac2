/* SPDX-License-Identifier: MIT */
/*
 * echo_asio.cpp - an echo server on Asio, written the usual way.
 *
 *     weir-echo-asio --port 7700 &
 *     weir load --port 7700
 *
 * A contender of `weir demo`.  A connection is kept alive by the shared
 * pointers its operations hold; each receive gets a buffer of its own, which
 * lives until its bytes are written back - the "buffer per packet" that pools
 * are said to replace.  The buffer is 4 KiB, a common choice; one thread,
 * TCP_NODELAY, and a concurrency hint of 1, which spares Asio its locks.
 */
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <asio.hpp>

namespace
{

constexpr std::size_t buffer_bytes = 4096;
constexpr int backlog = 4096;

class connection : public std::enable_shared_from_this<connection>
{
      public:
	explicit connection(asio::ip::tcp::socket socket)
	    : socket_(std::move(socket))
	{
	}

	void receive()
	{
		auto self = shared_from_this();
		auto buffer = std::make_shared<std::vector<char>>(buffer_bytes);

		socket_.async_read_some(asio::buffer(*buffer),
		    [self, buffer](
			const asio::error_code &error, std::size_t bytes) {
			    if (!error)
				    self->send(buffer, bytes);
		    });
	}

      private:
	void send(
	    const std::shared_ptr<std::vector<char>> &buffer, std::size_t bytes)
	{
		auto self = shared_from_this();

		asio::async_write(socket_, asio::buffer(*buffer, bytes),
		    [self, buffer](const asio::error_code &error, std::size_t) {
			    if (!error)
				    self->receive();
		    });
	}

	asio::ip::tcp::socket socket_;
};

class server
{
      public:
	server(
	    asio::io_context &context, const asio::ip::tcp::endpoint &endpoint)
	    : acceptor_(context)
	{
		acceptor_.open(endpoint.protocol());
		acceptor_.set_option(
		    asio::ip::tcp::acceptor::reuse_address(true));
		acceptor_.bind(endpoint);
		acceptor_.listen(backlog);
		accept();
	}

	unsigned port() const
	{
		return acceptor_.local_endpoint().port();
	}

      private:
	void accept()
	{
		acceptor_.async_accept([this](const asio::error_code &error,
					   asio::ip::tcp::socket socket) {
			if (!error) {
				asio::error_code ignored;
				socket.set_option(
				    asio::ip::tcp::no_delay(true), ignored);
				std::make_shared<connection>(std::move(socket))
				    ->receive();
			}
			if (error != asio::error::operation_aborted)
				accept();
		});
	}

	asio::ip::tcp::acceptor acceptor_;
};

struct settings {
	std::string address = "127.0.0.1";
	unsigned short port = 7700;
};

/* "--name value" pairs; false on anything else. */
bool
arguments(int argc, char **argv, settings &out)
{
	for (int i = 1; i < argc; i += 2) {
		if (i + 1 >= argc)
			return false;
		const std::string name = argv[i];
		char *end = nullptr;
		const long value = std::strtol(argv[i + 1], &end, 10);
		const bool number = end != argv[i + 1] && *end == '\0';

		if (name == "--address")
			out.address = argv[i + 1];
		else if (name == "--port" && number && value >= 0 &&
			 value <= 65535)
			out.port = static_cast<unsigned short>(value);
		else if (name != "--threads" || !number || value != 1)
			return false;
	}
	return true;
}

void
raise_descriptors()
{
	rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

} // namespace

int
main(int argc, char **argv)
{
	settings set;

	if (!arguments(argc, argv, set)) {
		std::fputs("usage: weir-echo-asio [--address A] [--port P] "
			   "[--threads 1]\n",
		    stderr);
		return 2;
	}
	raise_descriptors();
	try {
		asio::io_context context(1);
		asio::signal_set signals(context, SIGTERM, SIGINT);
		server echo(context,
		    asio::ip::tcp::endpoint(
			asio::ip::make_address(set.address), set.port));

		signals.async_wait([&context](const asio::error_code &, int) {
			context.stop();
		});
		std::printf(
		    "listening on %s:%u\n", set.address.c_str(), echo.port());
		std::fflush(stdout);
		context.run();
	} catch (const std::exception &error) {
		std::fprintf(stderr, "weir-echo-asio: %s\n", error.what());
		return 1;
	}
	return 0;
}
