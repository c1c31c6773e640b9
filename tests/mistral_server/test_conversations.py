"""Conversations: the inputs of an append, the agent that answers, and the history."""

from __future__ import annotations

import pytest
from mistralai.client import errors

from outlast.testing.mistral_server import (
    Call,
    Drop,
    Execute,
    Fault,
    HandOff,
    Hang,
    ModelPrompt,
    Output,
    Refuse,
    Say,
    ScriptedModel,
    Think,
)
from tests.mistral_server.cloud import RATE_TOOL, Cloud, Json, calls_of, cloud, types_of

pytestmark = pytest.mark.server


async def refusal(world: Cloud, path: str, body: Json) -> Json:
    """Return the body of a 400."""
    response = await world.http.post(path, json=body)
    assert response.status_code == 400, response.text
    refused: Json = response.json()
    assert (refused["object"], refused["type"], refused["code"]) == ("Error", "invalid_request_error", 3001)
    return refused


def result(call_id: str) -> Json:
    return {"type": "function.result", "tool_call_id": call_id, "result": "done"}


async def test_parallel_calls_are_answered_and_the_history_shows_everything_in_order() -> None:
    model = ScriptedModel({"rates": [[Call("get_rate", {"day": "mon"}), Call("get_rate")], [Say("Both.")]]})
    async with cloud(model) as world:
        agent_id = await world.agent("rates", tools=[RATE_TOOL], instructions="Be brief.")
        started = await world.sdk.beta.conversations.start_async(
            agent_id=agent_id, inputs="Rates?", metadata={"run": "17"}
        )
        assert len(calls_of(started)) == 2
        finished = await world.answer(started)
        assert finished.conversation_id == started.conversation_id
        history = await world.history(started.conversation_id)
        assert types_of(history) == [
            "message.input",
            *["function.call"] * 2,
            *["function.result"] * 2,
            "message.output",
        ]
        assert history[-1]["content"] == "Both."
        shown = await world.sdk.beta.conversations.get_async(conversation_id=started.conversation_id)
        assert shown.metadata == {"run": "17"}
        messages = await world.sdk.beta.conversations.get_messages_async(
            conversation_id=started.conversation_id
        )
        assert [message.content for message in messages.messages] == ["Rates?", "Both."]
        first, second = model.calls
        assert (first.replies, second.replies) == (0, 1)
        assert (first.agent, first.agent_id, first.instructions) == ("rates", agent_id, "Be brief.")
        assert first.tool_names == ["get_rate"]
        assert first.text == "Rates?"
        assert list(second.results) == [call_id for call_id, _ in calls_of(started)]


async def test_results_come_first_all_of_them_and_only_once() -> None:
    model = ScriptedModel([[Call("get_rate"), Call("get_rate")], [Say("Thanks.")]])
    async with cloud(model) as world:
        started = await world.sdk.beta.conversations.start_async(
            model="m", inputs="Rates?", tools=[RATE_TOOL]
        )
        (one, _), (two, _) = calls_of(started)
        path = f"/v1/conversations/{started.conversation_id}"
        user: Json = {"type": "message.input", "role": "user", "content": "And?"}
        missing = (
            "Cannot append other inputs while function results are still missing. "
            "Provide function results first for: "
        )
        assert (await refusal(world, path, {"inputs": "And?"}))["message"] == missing + f"['{one}', '{two}']"
        assert (await refusal(world, path, {"inputs": [user, result(one), result(two)]}))[
            "message"
        ].startswith(missing)
        assert (await refusal(world, path, {"inputs": [result(two)]}))["message"] == missing + f"['{one}']"
        assert (await refusal(world, path, {"inputs": [result(two), user]}))[
            "message"
        ] == missing + f"['{one}']"
        unknown = await refusal(world, path, {"inputs": [result("aaaaaaaaa")]})
        assert unknown["message"] == "Unexpected tool call id aaaaaaaaa in tool results"
        twice = await refusal(world, path, {"inputs": [result(one), result(one), result(two)]})
        assert "already have a result" in twice["message"]
        assert types_of(await world.history(started.conversation_id)) == [
            "message.input",
            *["function.call"] * 2,
        ]
        answered = await world.http.post(path, json={"inputs": [result(two), result(one), user]})
        assert answered.status_code == 200
        late = await refusal(world, path, {"inputs": [result(one)]})
        assert "already have a result" in late["message"]


async def test_a_call_before_a_handoff_is_abandoned() -> None:
    model = ScriptedModel(
        {"front": [[Call("get_rate"), HandOff("back")]], "back": [[Say("I am here.")], [Say("Yes.")]]}
    )
    async with cloud(model) as world:
        back = await world.agent("back")
        front = await world.agent("front", tools=[RATE_TOOL], handoffs=[back])
        started = await world.sdk.beta.conversations.start_async(agent_id=front, inputs="Hello")
        [(abandoned, _)] = calls_of(started)
        path = f"/v1/conversations/{started.conversation_id}"
        refused = await refusal(world, path, {"inputs": [result(abandoned)]})
        assert refused["message"] == f"Unexpected tool call id {abandoned} in tool results"
        assert (await world.http.post(path, json={"inputs": "Are you?"})).status_code == 200


async def test_a_server_side_handoff_goes_on_within_the_request_and_stays_with_the_next_agent() -> None:
    model = ScriptedModel(
        {
            "front": [[Say("One moment."), HandOff("back")]],
            "back": [
                [Execute("web_search", {"query": "euro rate"}, {"hits": 2}), Say("2.5 %")],
                [Say("Bye.")],
            ],
        }
    )
    async with cloud(model) as world:
        back = await world.agent("back", tools=[{"type": "web_search"}])
        front = await world.agent("front", handoffs=[back])
        response = await world.sdk.beta.conversations.start_async(agent_id=front, inputs="Rate?")
        outputs = [output.model_dump(mode="json") for output in response.outputs]
        assert types_of(outputs) == ["message.output", "agent.handoff", "tool.execution", "message.output"]
        handoff = outputs[1]
        assert (handoff["previous_agent_id"], handoff["previous_agent_name"]) == (front, "front")
        assert (handoff["next_agent_id"], handoff["next_agent_name"]) == (back, "back")
        assert [outputs[0]["agent_id"], outputs[3]["agent_id"]] == [front, back]
        assert outputs[2]["arguments"] == '{"query": "euro rate"}'
        assert response.usage.connectors == {"web_search": 1}
        assert response.usage.connector_tokens
        assert model.calls[1].replies == 1
        await world.sdk.beta.conversations.append_async(
            conversation_id=response.conversation_id, inputs="Bye"
        )
        assert model.calls[2].agent == "back"
        assert model.unused == {}


async def test_a_client_side_handoff_returns_to_the_caller_who_resumes_with_the_next_agent() -> None:
    model = ScriptedModel({"front": [[HandOff("back")]], "back": [[Say("Here.")]]})
    async with cloud(model) as world:
        front = await world.agent("front", handoffs=[await world.agent("back")])
        conversations = world.sdk.beta.conversations
        started = await conversations.start_async(agent_id=front, inputs="Hi", handoff_execution="client")
        assert [output.type for output in started.outputs] == ["agent.handoff"]
        resumed = await conversations.append_async(conversation_id=started.conversation_id, inputs=[])
        assert [output.type for output in resumed.outputs] == ["message.output"]


async def test_agents_that_hand_off_for_ever_fail_as_the_live_orchestration_does() -> None:
    def ping_pong(call: ModelPrompt) -> list[Output]:
        return [HandOff(call.handoffs[0])]

    async with cloud(ping_pong) as world:
        one, two = await world.agent("one"), await world.agent("two")
        for agent, other in ((one, two), (two, one)):
            await world.sdk.beta.agents.update_async(agent_id=agent, handoffs=[other])
        with pytest.raises(errors.SDKError, match="Response failed during handoff orchestration") as raised:
            await world.sdk.beta.conversations.start_async(agent_id=one, inputs="Hi")
        assert raised.value.status_code == 500
        assert world.server.conversations == {}


@pytest.mark.parametrize(("confirmation", "status"), [("allow", "allowed"), ("deny", "denied")])
async def test_a_tool_that_requires_confirmation_waits_for_it(confirmation: str, status: str) -> None:
    model = ScriptedModel([[Execute("web_search", {"query": "x"}, {"hits": 1})], [Say("Done.")]])
    async with cloud(model) as world:
        tool = {"type": "web_search", "tool_configuration": {"requires_confirmation": ["web_search"]}}
        started = await world.sdk.beta.conversations.start_async(model="m", inputs="Search", tools=[tool])
        [(call_id, _)] = calls_of(started)
        assert started.outputs[0].model_dump()["confirmation_status"] == "pending"
        path = f"/v1/conversations/{started.conversation_id}"
        assert (
            "Unexpected tool call id"
            in (await refusal(world, path, {"inputs": [result(call_id)]}))["message"]
        )
        assert "still missing" in (await refusal(world, path, {"inputs": "go on"}))["message"]
        confirmations = [{"tool_call_id": call_id, "confirmation": confirmation}]
        finished = await world.sdk.beta.conversations.append_async(
            conversation_id=started.conversation_id,
            tool_confirmations=confirmations,
        )
        ran = ["tool.execution"] if confirmation == "allow" else []
        assert [output.type for output in finished.outputs] == [*ran, "message.output"]
        assert (await world.history(started.conversation_id))[1]["confirmation_status"] == status
        again = await refusal(world, path, {"tool_confirmations": confirmations})
        assert again["message"] == f"Unexpected tool call id {call_id} in tool confirmations"


async def test_a_call_with_broken_arguments_poisons_its_conversation() -> None:
    async with cloud(ScriptedModel([[Call("get_rate", '{"day": "mo')]])) as world:
        started = await world.sdk.beta.conversations.start_async(model="m", inputs="Rate?", tools=[RATE_TOOL])
        [(call_id, _)] = calls_of(started)
        path = f"/v1/conversations/{started.conversation_id}"
        for inputs in ([result(call_id)], "Never mind."):
            assert "not valid JSON" in (await refusal(world, path, {"inputs": inputs}))["message"]


async def test_a_call_without_any_arguments_does_not() -> None:
    async with cloud(ScriptedModel([[Call("get_rate", "")], [Say("ok")]])) as world:
        await world.answer(await world.sdk.beta.conversations.start_async(model="m", inputs="Rate?"))


async def test_a_restart_branches_off_at_an_entry() -> None:
    model = ScriptedModel([[Say("one")], [Say("two")], [Say("another two")]])
    async with cloud(model) as world:
        conversations = world.sdk.beta.conversations
        started = await conversations.start_async(model="m", inputs="1", metadata={"run": "17"})
        path = f"/v1/conversations/{started.conversation_id}/restart"
        anchor = started.outputs[-1].model_dump()["id"]
        early = await refusal(world, path, {"inputs": [], "from_entry_id": anchor})
        assert "before something was appended" in early["message"]
        await conversations.append_async(conversation_id=started.conversation_id, inputs="2")
        branch = await conversations.restart_async(
            conversation_id=started.conversation_id, inputs="2 again", from_entry_id=anchor
        )
        assert branch.conversation_id != started.conversation_id
        contents = [entry["content"] for entry in await world.history(branch.conversation_id)]
        assert contents == ["1", "one", "2 again", "another two"]
        assert len(await world.history(started.conversation_id)) == 4
        shown = await conversations.get_async(conversation_id=branch.conversation_id)
        assert shown.metadata == {"run": "17"}
        assert (await world.http.post(path, json={"from_entry_id": anchor})).status_code == 422
        unknown = await world.http.post(path, json={"inputs": [], "from_entry_id": "msg_0"})
        assert unknown.status_code == 404


async def test_a_conversation_that_is_not_stored_takes_the_whole_history_as_inputs() -> None:
    model = ScriptedModel([[Call("get_rate")], [Say("2.5")], [Say("stored")], [Say("not stored")]])
    async with cloud(model) as world:
        conversations = world.sdk.beta.conversations
        started = await conversations.start_async(model="m", inputs="Rate?", store=False)
        assert world.server.conversations == {}
        with pytest.raises(
            errors.SDKError, match=f"Conversation with id {started.conversation_id} was not found"
        ):
            await world.answer(started)
        call = started.outputs[0].model_dump(mode="json")
        history = [
            {"type": "message.input", "role": "user", "content": "Rate?"},
            call,
            result(call["tool_call_id"]),
        ]
        again = await conversations.start_async(model="m", inputs=history, store=False)
        assert again.outputs[0].model_dump()["content"] == "2.5"
        assert model.calls[1].replies == 1
        stored = await conversations.start_async(model="m", inputs="Keep this")
        await conversations.append_async(
            conversation_id=stored.conversation_id, inputs="Not this", store=False
        )
        assert len(await world.history(stored.conversation_id)) == 2


async def test_conversations_are_found_by_metadata_and_deleted() -> None:
    async with cloud(ScriptedModel([[Say("a")], [Say("b")]])) as world:
        conversations = world.sdk.beta.conversations
        first = await conversations.start_async(model="m", inputs="1", metadata={"run": "1"})
        second = await conversations.start_async(model="m", inputs="2", metadata={"run": "2"})
        listed = await conversations.list_async(metadata={"run": "2"})
        assert [conversation.id for conversation in listed] == [second.conversation_id]
        assert len(await conversations.list_async(metadata={}, page_size=1)) == 1
        await conversations.delete_async(conversation_id=first.conversation_id)
        assert list(world.server.conversations) == [second.conversation_id]


async def test_the_metadata_filter_can_be_as_unreliable_as_the_live_one() -> None:
    async with cloud(ScriptedModel([[Say("a")]]), metadata_filter_works=False) as world:
        await world.sdk.beta.conversations.start_async(model="m", inputs="1", metadata={"run": "1"})
        assert len(await world.sdk.beta.conversations.list_async(metadata={"run": "2"})) == 1


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_request_that_lost_its_client_goes_on_and_shuts_the_conversation_meanwhile(
    at_once: bool,
) -> None:
    model = ScriptedModel([[Say("one")], [Say("two")], [Say("three")]])
    async with cloud(model, inputs_visible_at_once=at_once) as world:
        conversations = world.sdk.beta.conversations
        started = await conversations.start_async(model="m", inputs="1")
        hang = Hang("work")
        world.server.faults.add(Fault(Drop("work"), hang, method="POST"))
        with pytest.raises(Exception, match="disconnected"):
            await conversations.append_async(conversation_id=started.conversation_id, inputs="2")
        await hang.reached()
        assert len(await world.history(started.conversation_id)) == (3 if at_once else 2)
        for attempt in (
            conversations.append_async(conversation_id=started.conversation_id, inputs="3"),
            conversations.delete_async(conversation_id=started.conversation_id),
        ):
            with pytest.raises(errors.SDKError, match="concurrent requests are not supported") as raised:
                await attempt
            assert raised.value.status_code == 409
        hang.release()
        await world.server.settled()
        contents = [entry["content"] for entry in await world.history(started.conversation_id)]
        assert contents == ["1", "one", "2", "two"]
        await conversations.append_async(conversation_id=started.conversation_id, inputs="3")


async def test_a_refused_request_leaves_nothing_behind() -> None:
    refuse = Refuse(503, {"message": "overloaded", "code": 3000}, {"Retry-After": "1"})
    async with cloud(ScriptedModel([[refuse], [Say("one")], [refuse]]), inputs_visible_at_once=True) as world:
        conversations = world.sdk.beta.conversations
        with pytest.raises(errors.SDKError) as raised:
            await conversations.start_async(model="m", inputs="1")
        assert (raised.value.status_code, raised.value.headers["retry-after"]) == (503, "1")
        assert world.server.conversations == {}
        started = await conversations.start_async(model="m", inputs="1")
        with pytest.raises(errors.SDKError):
            await conversations.append_async(conversation_id=started.conversation_id, inputs="2")
        assert len(await world.history(started.conversation_id)) == 2


async def test_an_agent_version_is_fixed_at_the_start() -> None:
    model = ScriptedModel([[Say("a")], [Say("b")], [Say("c")]])
    async with cloud(model) as world:
        conversations = world.sdk.beta.conversations
        agent_id = await world.agent("a", instructions="old")
        started = await conversations.start_async(agent_id=agent_id, inputs="1")
        await world.sdk.beta.agents.update_async(agent_id=agent_id, instructions="new")
        await conversations.append_async(conversation_id=started.conversation_id, inputs="2")
        await conversations.start_async(agent_id=agent_id, agent_version=0, inputs="3")
        assert [call.instructions for call in model.calls] == ["old", "old", "old"]


async def test_thinking_is_part_of_the_message_that_follows() -> None:
    async with cloud(ScriptedModel([[Think("Hm."), Say("Yes."), Think("More."), Call("get_rate")]])) as world:
        response = await world.sdk.beta.conversations.start_async(
            model="m", inputs="?", completion_args={"reasoning_effort": "high"}
        )
        outputs = [output.model_dump(mode="json") for output in response.outputs]
        assert types_of(outputs) == ["message.output", "message.output", "function.call"]
        assert [chunk["type"] for chunk in outputs[0]["content"]] == ["thinking", "text"]


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": "x"},
        {"inputs": "x", "model": "m", "agent_id": "ag_0"},
        {"inputs": "x", "agent_id": "ag_0", "instructions": "more"},
        {"inputs": "x", "agent_id": "ag_0", "tools": []},
        {"inputs": "x", "model": "m", "agent_version": 0},
        {"inputs": "x", "model": "m", "tools": [{"type": "document_library", "library_ids": []}]},
        {"inputs": [{"type": "message.input", "role": "system", "content": "x"}], "model": "m"},
        {"model": "m"},
    ],
)
async def test_a_start_that_makes_no_sense_is_refused(body: Json) -> None:
    async with cloud(ScriptedModel([])) as world:
        response = await world.http.post("/v1/conversations", json=body)
        assert response.status_code == 422
        assert response.json()["detail"]
